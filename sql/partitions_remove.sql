-- ?1 partition
DELETE FROM {partitions} WHERE partition = ?1
