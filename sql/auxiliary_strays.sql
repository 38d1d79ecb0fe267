-- -> rowid of rows that the map has not
SELECT rowid FROM {auxiliary} EXCEPT SELECT rowid FROM {rowids} LIMIT 100
