-- Renames the shadow table of metadata columns: {new} as in rename.sql.
ALTER TABLE {metadata} RENAME TO "{new}_metadata{number}";
