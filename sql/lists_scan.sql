-- -> segment
SELECT segment FROM {lists} ORDER BY segment
