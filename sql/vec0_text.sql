-- A text of more than 12 bytes of a metadata column of a table that sqlite-vec made.
SELECT data FROM "{schema}"."{new}" WHERE rowid = ?1
