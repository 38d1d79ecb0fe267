-- ?1 key -> partition
SELECT partition FROM {partitions} WHERE key = ?1
