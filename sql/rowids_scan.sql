-- ?1 first rowid, ?2 last rowid, ?3 limit -> rowid, list_no
SELECT rowid, list_no FROM {rowids} WHERE rowid BETWEEN ?1 AND ?2 ORDER BY rowid LIMIT ?3
