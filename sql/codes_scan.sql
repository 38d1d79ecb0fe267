-- -> segment
SELECT segment FROM {codes} ORDER BY segment
