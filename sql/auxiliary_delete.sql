-- ?1 first rowid, ?2 last rowid
DELETE FROM {auxiliary} WHERE rowid BETWEEN ?1 AND ?2
