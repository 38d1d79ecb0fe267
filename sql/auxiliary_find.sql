-- ?1 key -> rowid
SELECT rowid FROM {auxiliary} WHERE key = ?1
