-- ?1 first segment, ?2 last segment -> segment, head
SELECT segment, head FROM {lists} WHERE segment BETWEEN ?1 AND ?2 ORDER BY segment
