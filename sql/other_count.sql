-- {new}: another table of the schema -> the number of rows that this table has and the other lacks
SELECT count(*) FROM {rowids} WHERE rowid NOT IN (SELECT rowid FROM "{schema}"."{new}_rowids")
