-- ?1 rowid, ?2 bit i says that value i changes, ?3... the key, if there is one, and the values
UPDATE {auxiliary} SET {auxiliary_sets} WHERE rowid = ?1
