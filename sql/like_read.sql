-- -> whether LIKE and GLOB are functions of the host's, not SQLite's own
SELECT coalesce(max(name = 'like'), 0), coalesce(max(name = 'glob'), 0) FROM pragma_function_list WHERE narg IN (2, -1) AND name IN ('like', 'glob') AND NOT builtin
