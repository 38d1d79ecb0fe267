-- Renames the shadow table of partitions: {new} as in rename.sql.
ALTER TABLE {partitions} RENAME TO "{new}_partitions{number}";
