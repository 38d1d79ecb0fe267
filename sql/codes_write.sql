-- ?1 segment, ?2 data
INSERT OR REPLACE INTO {codes}(segment, data) VALUES (?1, ?2)
