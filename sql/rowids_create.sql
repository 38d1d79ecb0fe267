-- Makes the map of a new table.
CREATE TABLE {rowids}(rowid INTEGER PRIMARY KEY, list_no INTEGER);
