-- ?1 rowid, ?2... the key, if there is one, and the values (no OR REPLACE: it would open a savepoint in each statement)
INSERT INTO {auxiliary} VALUES (?1{auxiliary_params})
