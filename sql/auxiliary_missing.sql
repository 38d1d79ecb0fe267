-- -> rowid of rows of the map that are not there
SELECT rowid FROM {rowids} EXCEPT SELECT rowid FROM {auxiliary} LIMIT 100
