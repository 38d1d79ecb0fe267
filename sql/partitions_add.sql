-- ?1 partition, ?2 key
INSERT INTO {partitions}(partition, key, rows) VALUES (?1, ?2, 0)
