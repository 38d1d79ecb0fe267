-- Deletes all partitions.
DELETE FROM {partitions}
