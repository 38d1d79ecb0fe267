-- -> largest partition
SELECT max(partition) FROM {partitions}
