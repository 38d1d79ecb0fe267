-- ?1 key, ?2 value
INSERT OR REPLACE INTO {config}(key, value) VALUES (?1, ?2)
