-- Drops the shadow table of partitions.
DROP TABLE IF EXISTS {partitions};
