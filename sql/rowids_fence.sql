-- Makes the map of a new table of the module vec0. A sqlite-vec that takes it for its own looks for three columns that stay NULL here: without them it ends the process, with them it reports an error. Its INSERT fails.
CREATE TABLE {rowids}(rowid INTEGER PRIMARY KEY, list_no INTEGER NOT NULL, id, chunk_id, chunk_offset);
