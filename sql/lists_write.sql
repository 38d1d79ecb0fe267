-- ?1 segment, ?2 head
INSERT OR REPLACE INTO {lists}(segment, head) VALUES (?1, ?2)
