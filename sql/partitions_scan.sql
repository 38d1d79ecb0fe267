-- -> partition, key, rows
SELECT partition, key, rows FROM {partitions} ORDER BY partition
