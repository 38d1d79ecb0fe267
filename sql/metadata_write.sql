-- ?1 segment, ?2 data
INSERT OR REPLACE INTO {metadata}(segment, data) VALUES (?1, ?2)
