-- ?1 rowid, ?2 list_no
INSERT OR REPLACE INTO {rowids}(rowid, list_no) VALUES (?1, ?2)
