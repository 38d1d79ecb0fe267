-- Some rows of a table that sqlite-vec made, from a rowid on, with the places of their values.
SELECT rowid, id, chunk_id, chunk_offset FROM {rowids} WHERE rowid >= ?1 ORDER BY rowid LIMIT 256
