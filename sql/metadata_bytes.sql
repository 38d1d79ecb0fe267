-- -> bytes of the blobs (length() reads no content)
SELECT coalesce(sum(length(data)), 0) FROM {metadata}
