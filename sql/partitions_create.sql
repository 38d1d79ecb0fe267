-- Makes the shadow table of partitions.
CREATE TABLE {partitions}(partition INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, rows INTEGER NOT NULL);
