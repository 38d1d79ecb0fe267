-- -> rowid, the largest first
SELECT rowid FROM {rowids} ORDER BY rowid DESC
