-- -> whether LIKE takes letters of ASCII without case, and others
SELECT 'a' LIKE 'A', 'ä' LIKE 'Ä'
