-- -> bytes of the blobs in centroids, lists, codes, vectors (length() reads no content)
SELECT (SELECT coalesce(sum(length(data)), 0) FROM {centroids}), (SELECT coalesce(sum(length(head)), 0) FROM {lists}), (SELECT coalesce(sum(length(data)), 0) FROM {codes}), (SELECT coalesce(sum(length(data)), 0) FROM {vectors})
