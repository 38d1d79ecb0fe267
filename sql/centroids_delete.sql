-- All of them.
DELETE FROM {centroids}
