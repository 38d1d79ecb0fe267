-- Drops the shadow tables.
DROP TABLE IF EXISTS {config};
DROP TABLE IF EXISTS {state};
DROP TABLE IF EXISTS {centroids};
DROP TABLE IF EXISTS {lists};
DROP TABLE IF EXISTS {codes};
DROP TABLE IF EXISTS {vectors};
DROP TABLE IF EXISTS {rowids};
