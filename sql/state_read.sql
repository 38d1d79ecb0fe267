-- -> uuid, ver, stamp, rows, generation, nlist, centroids, checksum
SELECT uuid, ver, stamp, rows, generation, nlist, centroids, checksum FROM {state} WHERE id = 1
