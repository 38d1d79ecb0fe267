-- -> the encoding of texts
PRAGMA encoding
