-- The short session that each artifact goes through where it was installed. `-->` lines are what comes back, `--!` is part of
-- an error. Every column is a text or a whole number, so that all hosts print it alike. VERSION stands for the version.

SELECT ivf_version(), vec_version() LIKE 'v%';
--> vVERSION|1

CREATE VIRTUAL TABLE items USING ivf(vec float[6], nlist=8, year INTEGER, +title TEXT);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 900)
INSERT INTO items(rowid, vec, year, title)
SELECT i, printf('[%d, %d, %d, %d, %d, %d]', i * 7919 % 101, i * 6271 % 103, i * 4409 % 107, i * 3331 % 109, i * 2707 % 113, i * 1283 % 127),
  2000 + i % 25, 'item ' || i FROM n;

SELECT rowid, printf('%.3f', distance), title FROM items WHERE vec MATCH '[50, 50, 50, 50, 50, 50]' AND k = 3 ORDER BY distance;
--> 873|27.037|item 873
--> 580|30.643|item 580
--> 149|31.385|item 149
SELECT rowid, year FROM items WHERE vec MATCH '[50, 50, 50, 50, 50, 50]' AND k = 2 AND year BETWEEN 2003 AND 2005 ORDER BY distance;
--> 580|2005
--> 853|2003
SELECT count(*) FROM items WHERE vec MATCH '[50, 50, 50, 50, 50, 50]' AND distance < 40;
--> 11

INSERT INTO items(items) VALUES ('train');
SELECT rows, nlist, trained FROM ivf_stats('items');
--> 900|8|1
SELECT rowid FROM items WHERE vec MATCH '[50, 50, 50, 50, 50, 50]' AND k = 3 AND nprobe = -1 ORDER BY distance;
--> 873
--> 580
--> 149
SELECT query, rowid FROM items WHERE batch MATCH '[[50, 50, 50, 50, 50, 50], [1, 2, 3, 4, 5, 6]]' AND k = 1 AND nprobe = -1 ORDER BY query;
--> 0|873
--> 1|540
SELECT query, hex(rowids), length(distances) FROM items
 WHERE batch MATCH '[[50, 50, 50, 50, 50, 50], [1, 2, 3, 4, 5, 6]]' AND k = 2 AND nprobe = -1 AND packed = 1 ORDER BY query;
--> 0|69030000000000004402000000000000|16
--> 1|1C020000000000006D00000000000000|16
SELECT printf('%.2f', recall), queries FROM ivf_recall('items', '[[9, 8, 7, 6, 5, 4]]', 10, -1);
--> 1.00|1

BEGIN;
DELETE FROM items WHERE rowid <= 450;
SELECT count(*) FROM items;
--> 450
ROLLBACK;
SELECT count(*) FROM items;
--> 900
INSERT INTO items(vec) VALUES ('[1, 2]');
--! Dimension mismatch: the vector has 2 dimensions, expected 6
INSERT INTO items(items) VALUES ('integrity-check');

CREATE VIRTUAL TABLE signs USING ivf(vec bit[16]);
INSERT INTO signs(vec) VALUES (x'f00f'), (x'0f0f'), (vec_quantize_binary('[1, -1, 1, -1, 1, -1, 1, -1, 1, 1, 1, 1, -1, -1, -1, -1]'));
SELECT rowid, printf('%.0f', distance) FROM signs WHERE vec MATCH x'ff0f' AND k = 2 ORDER BY distance, rowid;
--> 1|4
--> 2|4

CREATE VIRTUAL TABLE v USING vec0(embedding float[2], +label TEXT);
INSERT INTO v(rowid, embedding, label) VALUES (1, '[1, 0]', 'east'), (2, '[0, 1]', 'north'), (3, '[-1, 0]', 'west');
SELECT rowid, label, printf('%.3f', distance) FROM v WHERE embedding MATCH '[0.9, 0.1]' AND k = 2 ORDER BY distance;
--> 1|east|0.141
--> 2|north|1.273
SELECT hex(vec_normalize('[3, 4]')), printf('%.1f', vec_distance_l2('[0, 0]', '[3, 4]'));
--> 9A99193FCDCC4C3F|5.0
DROP TABLE v;
DROP TABLE signs;
DROP TABLE items;
SELECT count(*) FROM sqlite_schema;
--> 0
