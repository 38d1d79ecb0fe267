-- A chunk of a table that sqlite-vec made: three columns, then the values of its partition.
SELECT * FROM {chunks} WHERE chunk_id = ?1
