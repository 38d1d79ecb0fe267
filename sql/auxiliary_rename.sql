-- Renames the shadow table of auxiliary values and text keys: {new} as in rename.sql.
ALTER TABLE {auxiliary} RENAME TO "{new}_auxiliary{number}";
