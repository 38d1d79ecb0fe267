-- -> how many rows
SELECT count(*) FROM {rowids}
