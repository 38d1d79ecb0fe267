-- -> chunk, data
SELECT chunk, data FROM {centroids} ORDER BY chunk
