-- {new}: another table of the schema; ?1 rowid, ?2 number of rows -> rowids above ?1 that this table has and the other lacks, in their order
SELECT rowid FROM {rowids} WHERE rowid > ?1 AND rowid NOT IN (SELECT rowid FROM "{schema}"."{new}_rowids") ORDER BY rowid LIMIT ?2
