-- ?1 chunk, ?2 data
INSERT OR REPLACE INTO {centroids}(chunk, data) VALUES (?1, ?2)
