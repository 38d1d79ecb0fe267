-- ?1 first segment, ?2 last segment
DELETE FROM {metadata} WHERE segment BETWEEN ?1 AND ?2
