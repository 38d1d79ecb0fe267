-- ?1 key -> value
SELECT value FROM {config} WHERE key = ?1
