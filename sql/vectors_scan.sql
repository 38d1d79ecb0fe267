-- -> segment
SELECT segment FROM {vectors} ORDER BY segment
