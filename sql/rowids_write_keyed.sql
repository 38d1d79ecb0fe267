-- ?1 rowid, ?2 list_no. The row's text key stands in id, where programs for sqlite-vec look for it.
INSERT OR REPLACE INTO {rowids}(rowid, list_no, id) VALUES (?1, ?2, (SELECT key FROM {auxiliary} WHERE rowid = ?1))
