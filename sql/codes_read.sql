-- ?1 segment -> data
SELECT data FROM {codes} WHERE segment = ?1
