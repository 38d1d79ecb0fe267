-- ?1 partition, ?2 rows more
UPDATE {partitions} SET rows = rows + ?2 WHERE partition = ?1
