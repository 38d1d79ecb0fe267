-- ?1 partition -> rows
SELECT rows FROM {partitions} WHERE partition = ?1
