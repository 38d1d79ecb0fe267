-- Drops a shadow table of a table that sqlite-vec made.
DROP TABLE IF EXISTS "{schema}"."{new}"
