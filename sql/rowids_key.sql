-- ?1 rowid, whose text key has changed.
UPDATE {rowids} SET id = (SELECT key FROM {auxiliary} WHERE rowid = ?1) WHERE rowid = ?1
