-- ?1 uuid, ?2 ver, ?3 stamp, ?4 rows, ?5 generation, ?6 nlist, ?7 centroids, ?8 checksum
INSERT OR REPLACE INTO {state}(id, uuid, ver, stamp, rows, generation, nlist, centroids, checksum)
VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
