-- ?1 segment -> data
SELECT data FROM {metadata} WHERE segment = ?1
