-- The auxiliary values of a row of a table that sqlite-vec made, behind its rowid.
SELECT * FROM {auxiliary} WHERE rowid = ?1
