-- ?1 key
DELETE FROM {config} WHERE key = ?1
