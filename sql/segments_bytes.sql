-- ?1 first segment, ?2 last segment -> segment, bytes of its codes and vectors
SELECT c.segment, length(c.data) + length(v.data) FROM {codes} c JOIN {vectors} v ON v.segment = c.segment WHERE c.segment BETWEEN ?1 AND ?2
