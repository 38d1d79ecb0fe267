-- ?1 segment -> data
SELECT data FROM {vectors} WHERE segment = ?1
