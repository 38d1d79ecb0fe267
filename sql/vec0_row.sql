-- A row of a table that sqlite-vec made, by its text key.
SELECT rowid, id, chunk_id, chunk_offset FROM {rowids} WHERE id = ?1
