-- -> segment, the largest first: the other end of a table that is damaged in the middle
SELECT segment FROM {codes} ORDER BY segment DESC
