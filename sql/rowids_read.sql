-- ?1 rowid -> list_no
SELECT list_no FROM {rowids} WHERE rowid = ?1
