-- Drops the shadow table of metadata columns.
DROP TABLE IF EXISTS {metadata};
