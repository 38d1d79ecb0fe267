-- ?1 rowid, ?2 new rowid
UPDATE {auxiliary} SET rowid = ?2 WHERE rowid = ?1
