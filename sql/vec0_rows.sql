-- At most ?2 rows of a table that sqlite-vec made, from rowid ?1 on, with the places of their values.
SELECT rowid, id, chunk_id, chunk_offset FROM {rowids} WHERE rowid >= ?1 ORDER BY rowid LIMIT ?2
