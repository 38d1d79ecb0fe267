-- {new}: another table of the schema -> the number of rows that have another text key there, and the smallest rowid of one
SELECT count(*), min(rowid) FROM {auxiliary} JOIN (SELECT rowid AS other, key AS other_key FROM "{schema}"."{new}_auxiliary") ON other = rowid WHERE key IS NOT other_key
