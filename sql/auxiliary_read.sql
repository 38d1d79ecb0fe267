-- ?1 rowid, ?2 which of the key, if there is one, and the values -> it
SELECT CASE ?2{auxiliary_cases} END FROM {auxiliary} WHERE rowid = ?1
