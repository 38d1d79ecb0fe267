-- ?1 segment, ?2 data
INSERT OR REPLACE INTO {vectors}(segment, data) VALUES (?1, ?2)
