-- -> segment
SELECT segment FROM {metadata} ORDER BY segment
