-- ?1 number -> rowid of keys that are its text, or read as it
SELECT rowid FROM {auxiliary} WHERE key = ?1 UNION SELECT rowid FROM {auxiliary} WHERE +key = CAST(?1 AS NUMERIC)
