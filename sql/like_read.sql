-- -> whether LIKE and GLOB are SQLite's own, and no functions of the host's
SELECT NOT coalesce(max(name = 'like'), 0), NOT coalesce(max(name = 'glob'), 0) FROM pragma_function_list WHERE narg IN (2, -1) AND name IN ('like', 'glob') AND NOT builtin
