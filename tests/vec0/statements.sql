-- # vector functions

SELECT vec_f32('[.1, .2, 1.]')

SELECT vec_f32('[+1, -2.5e1, 3,]')

SELECT vec_f32(x'0000803f00000040')

SELECT vec_f32('[1, 2')

SELECT vec_f32('1, 2]')

SELECT vec_f32('')

SELECT vec_f32('[]')

SELECT vec_f32(x'')

SELECT vec_f32(x'00')

SELECT vec_f32(1)

SELECT vec_f32(1.5)

SELECT vec_f32(NULL)

SELECT vec_f32('[1, "2"]')

SELECT vec_f32('[[1]]')

SELECT vec_int8('[1, -2, 127]')

SELECT vec_int8('[128]')

SELECT vec_int8(x'01ff')

SELECT vec_int8(NULL)

SELECT vec_bit(x'f0')

SELECT vec_bit('[1,0]')

SELECT vec_bit(x'')

SELECT vec_length('[1,2,3]')

SELECT vec_length(vec_int8(x'0102'))

SELECT vec_length(vec_bit(x'0102'))

SELECT vec_type('[1,2,3]'), vec_type(vec_int8('[1]')), vec_type(vec_bit(x'00'))

SELECT vec_add('[.1, .2, .3]', '[.4, .5, .6]')

SELECT vec_add(vec_int8('[1, 2]'), vec_int8('[3, 4]'))

SELECT vec_add(vec_bit(x'ff'), vec_bit(x'ff'))

SELECT vec_add('[1]', '[1, 2]')

SELECT vec_add(vec_f32('[1]'), vec_int8('[1]'))

SELECT vec_sub('[.1, .2, .3]', '[.4, .5, .6]')

SELECT vec_sub(vec_int8('[1, 2]'), vec_int8('[3, 4]'))

SELECT vec_normalize('[3, 4]')

SELECT vec_normalize(vec_int8('[2]'))

SELECT vec_slice('[1, 2, 3, 4]', 0, 2), vec_slice('[1, 2, 3, 4]', 2, 4)

SELECT vec_slice('[1, 2, 3, 4]', 2, 2)

SELECT vec_slice('[1, 2, 3, 4]', -1, 2)

SELECT vec_slice('[1, 2, 3, 4]', 0, 5)

SELECT vec_slice(vec_bit(x'f0f1'), 0, 8)

SELECT vec_slice(vec_bit(x'f0f1'), 0, 3)

SELECT vec_slice(vec_int8('[1, 2, 3]'), 1, 3)

SELECT vec_quantize_binary('[1, -2, 3, -4, 5, -6, 7, -8]')

SELECT vec_quantize_binary('[1, 2]')

SELECT vec_quantize_binary(vec_int8('[1, -2, 3, -4, 5, -6, 7, -8]'))

SELECT vec_quantize_int8('[0.2, -1, 1, 0, 0.999, -0.5, 2, -7]', 'unit')

SELECT vec_quantize_int8('[0.2]', 'other')

SELECT vec_distance_l2('[1, 2]', '[3, 5]'), vec_distance_l1('[1, 2]', '[3, 5]'), vec_distance_cosine('[1, 2]', '[3, 5]')

SELECT vec_distance_l2(vec_int8('[1, 2]'), vec_int8('[3, 5]')), vec_distance_l1(vec_int8('[1, 2]'), vec_int8('[3, 5]'))

SELECT vec_distance_cosine(vec_int8('[1, 2]'), vec_int8('[3, 5]'))

SELECT vec_distance_hamming(vec_bit(x'0f'), vec_bit(x'01'))

SELECT vec_distance_hamming('[1]', '[2]')

SELECT vec_distance_l2(vec_bit(x'0f'), vec_bit(x'01'))

SELECT vec_distance_l2('[1]', '[1, 2]')

SELECT vec_distance_l2('[1]', NULL)

SELECT vec_distance_cosine('[0, 0]', '[1, 0]')

SELECT vec_distance_cosine('[0, 0]', '[0, 0]')

SELECT vec_to_json(vec_int8('[1, -2]')), vec_to_json(vec_bit(x'01'))

SELECT vec_to_json('[1, 0.5]')

SELECT rowid, value FROM vec_each('[1, 2.5, 3]')

SELECT rowid, value FROM vec_each(vec_int8('[1, 2]'))

SELECT rowid, value FROM vec_each(vec_bit(x'05'))

SELECT value FROM vec_each(NULL)

SELECT vec_version() >= 'v0.1.6'

SELECT substr(vec_debug(), 1, 8)

SELECT vec_f32()

SELECT vec_add('[1]')

-- # tables of a column

CREATE VIRTUAL TABLE v USING vec0(embedding float[3])

PRAGMA table_info(v)

INSERT INTO v(rowid, embedding) VALUES (1, '[1, 0, 0]'), (2, '[0, 1, 0]'), (3, '[0, 0, 2]')

INSERT INTO v(embedding) VALUES ('[.5, .5, .5]')

INSERT INTO v VALUES (10, '[9, 9, 9]')

INSERT INTO v VALUES (NULL, '[8, 8, 8]')

INSERT INTO v(embedding) VALUES ('[7, 7, 7]') RETURNING rowid

SELECT * FROM v

SELECT rowid, embedding FROM v WHERE rowid = 3

SELECT rowid FROM v WHERE rowid IN (1, 3, 99)

SELECT count(*) FROM v

SELECT max(rowid) FROM v

SELECT rowid, distance FROM v WHERE embedding MATCH '[1, 0.1, 0]' AND k = 3

SELECT rowid, distance FROM v WHERE embedding MATCH '[1, 0.1, 0]' AND k = 3 ORDER BY distance

SELECT rowid, distance FROM v WHERE embedding MATCH '[1, 0.1, 0]' ORDER BY distance LIMIT 2

SELECT rowid FROM v WHERE embedding MATCH '[1, 0.1, 0]' AND k = 0

SELECT rowid FROM v WHERE embedding MATCH '[1, 0.1, 0]' AND k = -1

SELECT rowid FROM v WHERE embedding MATCH '[1, 0.1, 0]' AND k = 5000

SELECT rowid FROM v WHERE embedding MATCH '[1, 0.1, 0]'

SELECT rowid FROM v WHERE embedding MATCH '[1, 0.1, 0]' AND k = 2 LIMIT 1

SELECT rowid FROM v WHERE embedding MATCH '[1, 0.1]' AND k = 2

SELECT rowid FROM v WHERE embedding MATCH 5 AND k = 2

SELECT rowid FROM v WHERE embedding MATCH NULL AND k = 2

SELECT rowid FROM v WHERE embedding MATCH vec_int8('[1, 2, 3]') AND k = 2

SELECT rowid FROM v WHERE embedding MATCH '[1, 0.1, 0]' AND k = 2 AND rowid IN (2, 3, 4)

SELECT rowid FROM v WHERE embedding MATCH '[1, 0.1, 0]' AND k = 2 AND rowid IN (SELECT value FROM json_each('[3, 4]'))

SELECT rowid FROM v WHERE embedding MATCH '[1, 0.1, 0]' AND k = 2 AND rowid IN ()

SELECT rowid FROM v WHERE embedding MATCH '[1, 0.1, 0]' AND k = 4 AND distance < 1.0

SELECT rowid FROM v WHERE embedding MATCH '[1, 0.1, 0]' AND k = 3 AND distance > 1.0

SELECT rowid FROM v WHERE embedding MATCH '[1, 0.1, 0]' AND k = 3 AND distance BETWEEN 0.5 AND 1.5

SELECT rowid FROM v WHERE embedding MATCH '[1, 0.1, 0]' AND k = 3 ORDER BY distance DESC

SELECT a.rowid, b.rowid FROM v a JOIN v b ON b.rowid = a.rowid WHERE a.embedding MATCH '[1, 0.1, 0]' AND a.k = 2

UPDATE v SET embedding = '[0, 3, 0]' WHERE rowid = 2

UPDATE v SET embedding = '[0, 3]' WHERE rowid = 2

SELECT rowid, embedding FROM v

UPDATE v SET embedding = NULL WHERE rowid = 2

DELETE FROM v WHERE rowid = 1

DELETE FROM v WHERE rowid = 77

SELECT rowid FROM v

INSERT INTO v(rowid, embedding) VALUES (2, '[1, 1, 1]')

INSERT INTO v(rowid, embedding) VALUES (20, '[1, 1]')

INSERT INTO v(rowid, embedding) VALUES (20, NULL)

INSERT INTO v(rowid) VALUES (20)

INSERT INTO v(rowid, embedding) VALUES (20, 5)

INSERT INTO v(rowid, embedding) VALUES (20, vec_int8('[1, 2, 3]'))

INSERT INTO v(rowid, embedding) VALUES ('x', '[1, 1, 1]')

INSERT INTO v(rowid, embedding, distance) VALUES (21, '[1, 1, 1]', 1)

INSERT INTO v(rowid, embedding, k) VALUES (21, '[1, 1, 1]', 1)

SELECT embedding MATCH '[1, 1, 1]' FROM v

SELECT rowid FROM v WHERE k = 1

BEGIN

INSERT INTO v(rowid, embedding) VALUES (50, '[5, 5, 5]')

SELECT count(*) FROM v

ROLLBACK

SELECT count(*) FROM v

DROP TABLE v

CREATE VIRTUAL TABLE v USING vec0(embedding float[1])

ALTER TABLE v RENAME TO w

SELECT rowid FROM w WHERE embedding MATCH '[1]' AND k = 1

-- # what the declaration may have

CREATE VIRTUAL TABLE a USING vec0(e float[4], chunk_size=16)

CREATE VIRTUAL TABLE b USING vec0(e FLOAT[4] distance_metric=cosine)

CREATE VIRTUAL TABLE c USING vec0(e f32[4] distance=l1)

CREATE VIRTUAL TABLE d USING vec0(e int8[4] distance_metric=cosine, f bit[8])

CREATE VIRTUAL TABLE e1 USING vec0(rowid INTEGER PRIMARY KEY, e float[2])

CREATE VIRTUAL TABLE e2 USING vec0(e float[2], id INTEGER PRIMARY KEY AUTOINCREMENT)

CREATE VIRTUAL TABLE e3 USING vec0(id TEXT PRIMARY KEY NOT NULL, e float[2])

CREATE VIRTUAL TABLE e4 USING vec0(slug TEXT NOT NULL DEFAULT '', e float[2])

CREATE VIRTUAL TABLE e5 USING vec0(n float(4), e float[2], t text auxiliary, u int UNIQUE)

CREATE VIRTUAL TABLE e6 USING vec0(e float[2], +a text not null, +b blob, +c integer, +d float)

CREATE VIRTUAL TABLE e7 USING vec0(e float8[2])

CREATE VIRTUAL TABLE e8 USING vec0(e float[2], p bool PARTITION KEY)

CREATE VIRTUAL TABLE e9 USING vec0(e9 float[2])

CREATE VIRTUAL TABLE f1 USING vec0(query float[2], batch TEXT, packed INT, rowids TEXT, nprobe FLOAT, params TEXT)

CREATE VIRTUAL TABLE f2 USING vec0(distances float[2], search_mode text, profile text)

CREATE VIRTUAL TABLE f3 USING vec0(e float[2], chunk_size=7)

CREATE VIRTUAL TABLE f4 USING vec0(e float[2], chunk_size=0)

CREATE VIRTUAL TABLE f5 USING vec0(e float[2], chunk_size=8192)

CREATE VIRTUAL TABLE f6 USING vec0(chunk_size=8)

CREATE VIRTUAL TABLE f7 USING vec0(e float[0])

CREATE VIRTUAL TABLE f8 USING vec0(e float[-1])

CREATE VIRTUAL TABLE f9 USING vec0(e float[20000])

CREATE VIRTUAL TABLE g1 USING vec0(e float[2] distance_metric=hamming)

CREATE VIRTUAL TABLE g2 USING vec0(e bit[8] distance_metric=l2)

CREATE VIRTUAL TABLE g3 USING vec0(e float[2], x json)

CREATE VIRTUAL TABLE g4 USING vec0(e float[2], a text primary key, b text primary key)

CREATE VIRTUAL TABLE g5 USING vec0(e float[2], unknown=4)

CREATE VIRTUAL TABLE g6 USING vec0(e float[2] unknown=4)

CREATE VIRTUAL TABLE g7 USING vec0()

CREATE VIRTUAL TABLE g8 USING vec0(e bit[12])

CREATE VIRTUAL TABLE a USING vec0(e float[4])

PRAGMA table_info(e2)

SELECT count(*) FROM f1 CROSS JOIN (SELECT 1 AS query, 2 AS batch, 3 AS distances)

-- # names in joins

CREATE VIRTUAL TABLE v USING vec0(embedding float[2])

INSERT INTO v(rowid, embedding) VALUES (1, '[1, 0]'), (2, '[0, 1]')

CREATE TABLE log(id INTEGER PRIMARY KEY, query TEXT, batch INT, packed INT, rowids TEXT, distances TEXT)

INSERT INTO log VALUES (1, 'one', 1, 1, 'r', 'd'), (2, 'two', 2, 2, 's', 'e')

SELECT query, batch, packed, rowids, distances FROM v JOIN log ON log.id = v.rowid WHERE embedding MATCH '[1, 0.1]' AND k = 1

-- # zero vectors

CREATE VIRTUAL TABLE z USING vec0(e float[2] distance_metric=cosine)

INSERT INTO z(rowid, e) VALUES (1, '[1, 0]'), (2, '[0, 0]'), (3, '[0, 1]')

SELECT rowid, e FROM z

SELECT distance IS NULL FROM z WHERE e MATCH '[1, 0]' AND k = 3 AND rowid IN (2)

SELECT rowid, distance FROM z WHERE e MATCH '[1, 0]' AND k = 3 AND rowid IN (1, 3)

SELECT count(*), count(distance) FROM z WHERE e MATCH '[0, 0]' AND k = 3

UPDATE z SET e = '[0, 0]' WHERE rowid = 3

DELETE FROM z WHERE rowid = 2

SELECT rowid, vec_distance_cosine(e, '[1, 0]') FROM z

-- # other elements and metrics

CREATE VIRTUAL TABLE i USING vec0(e int8[4])

INSERT INTO i(rowid, e) VALUES (1, vec_int8('[1, 2, 3, 4]')), (2, vec_int8('[-1, -2, -3, -4]'))

INSERT INTO i(rowid, e) VALUES (4, vec_f32('[1, 2, 3, 5]'))

SELECT rowid, distance FROM i WHERE e MATCH vec_int8('[1, 2, 3, 4]') AND k = 2

SELECT rowid, distance FROM i WHERE e MATCH vec_f32('[1, 2, 3, 4]') AND k = 2

INSERT INTO i(rowid, e) VALUES (5, x'01020304')

INSERT INTO i(rowid, e) VALUES (3, '[1, 2, 3, 5]')

CREATE VIRTUAL TABLE b USING vec0(e bit[8])

INSERT INTO b(rowid, e) VALUES (1, vec_bit(x'0f')), (2, vec_bit(x'ff'))

INSERT INTO b(rowid, e) VALUES (3, vec_quantize_binary('[1, -1, 1, -1, 1, -1, 1, -1]'))

SELECT rowid, distance FROM b WHERE e MATCH vec_bit(x'0e') AND k = 1

INSERT INTO b(rowid, e) VALUES (4, x'00')

CREATE VIRTUAL TABLE l USING vec0(e float[2] distance_metric=l1)

INSERT INTO l(rowid, e) VALUES (1, '[1, 2]'), (2, '[3, 4]')

SELECT rowid, distance FROM l WHERE e MATCH '[0, 0]' AND k = 2

CREATE VIRTUAL TABLE many USING vec0(a float[2], b int8[2], c bit[8])

INSERT INTO many(rowid, a, b, c) VALUES (1, '[1, 2]', vec_int8('[1, 2]'), vec_bit(x'01'))

INSERT INTO many(rowid, a) VALUES (2, '[1, 2]')

SELECT * FROM many

SELECT rowid, distance FROM many WHERE b MATCH vec_int8('[1, 1]') AND k = 1

SELECT rowid, distance FROM many WHERE c MATCH vec_bit(x'00') AND k = 1

-- # keys

CREATE VIRTUAL TABLE t USING vec0(id TEXT PRIMARY KEY, e float[2])

INSERT INTO t(id, e) VALUES ('a', '[1, 0]'), ('b', '[0, 1]')

INSERT INTO t VALUES ('c', '[1, 1]')

INSERT INTO t(id, e) VALUES ('a', '[1, 0]')

INSERT INTO t(id, e) VALUES (1, '[1, 0]')

INSERT INTO t(id, e) VALUES (NULL, '[1, 0]')

INSERT INTO t(e) VALUES ('[1, 0]')

SELECT * FROM t

SELECT id FROM t WHERE id = 'b'

SELECT id, distance FROM t WHERE e MATCH '[1, 0]' AND k = 2

SELECT id FROM t WHERE e MATCH '[1, 0]' AND k = 2 AND id IN ('b', 'c')

UPDATE t SET e = '[5, 5]' WHERE id = 'a'

DELETE FROM t WHERE id = 'b'

SELECT id, e FROM t

CREATE VIRTUAL TABLE n USING vec0(id INTEGER PRIMARY KEY, e float[2])

PRAGMA table_info(n)

INSERT INTO n(id, e) VALUES (7, '[1, 0]')

INSERT INTO n(e) VALUES ('[0, 1]')

INSERT INTO n(e) VALUES ('[0, 2]') RETURNING id

INSERT INTO n(id, e) VALUES ('x', '[0, 1]')

INSERT INTO n(id, e) VALUES (7, '[0, 1]')

SELECT * FROM n

SELECT id FROM n WHERE id = 8

SELECT id, distance FROM n WHERE e MATCH '[0, 1]' AND k = 1

SELECT id FROM n WHERE e MATCH '[0, 1]' AND k = 2 AND id IN (7, 8)

-- # partitions

CREATE VIRTUAL TABLE p USING vec0(e float[2], user INTEGER PARTITION KEY, kind TEXT PARTITION KEY)

INSERT INTO p(rowid, e, user, kind) VALUES (1, '[1, 0]', 1, 'a'), (2, '[2, 0]', 1, 'b'), (3, '[3, 0]', 2, 'a'), (4, '[4, 0]', 2, 'b'), (5, '[5, 0]', 3, 'a')

SELECT * FROM p

SELECT rowid FROM p WHERE e MATCH '[0, 0]' AND k = 2 AND user = 1

SELECT rowid FROM p WHERE e MATCH '[0, 0]' AND k = 2 AND user = 2 AND kind = 'b'

SELECT rowid FROM p WHERE e MATCH '[0, 0]' AND k = 2 AND user > 1

SELECT rowid FROM p WHERE e MATCH '[0, 0]' AND k = 2 AND user != 1

SELECT rowid FROM p WHERE e MATCH '[0, 0]' AND k = 2 AND user BETWEEN 2 AND 3

SELECT rowid, user FROM p WHERE e MATCH '[0, 0]' AND k = 1 AND user IN (1, 2)

SELECT rowid, user FROM p WHERE e MATCH '[0, 0]' AND k = 1 AND user IN (1, 2, 3) ORDER BY distance

SELECT rowid, user FROM p WHERE e MATCH '[0, 0]' AND k = 1 AND user IN (1, 2) AND kind IN ('a', 'b') ORDER BY distance

SELECT rowid FROM p WHERE e MATCH '[0, 0]' AND k = 2 AND user IN ()

SELECT rowid FROM p WHERE e MATCH '[0, 0]' AND k = 2 AND user = 99

SELECT rowid FROM p WHERE user = 1

UPDATE p SET user = 9 WHERE rowid = 1

INSERT INTO p(rowid, e, user, kind) VALUES (9, '[1, 0]', 'x', 'a')

DELETE FROM p WHERE user = 2

SELECT rowid FROM p

-- # metadata

CREATE VIRTUAL TABLE m USING vec0(e float[1], ok boolean, n integer, f float, t text)

INSERT INTO m(rowid, e, ok, n, f, t) VALUES (1, '[1]', 1, 10, 0.5, 'alpha'), (2, '[2]', 0, 20, 1.5, 'beta'), (3, '[3]', 1, 30, 2.5, 'gamma rays of much length'), (4, '[4]', 0, -40, -3.5, 'alphabet soup of much length')

SELECT * FROM m

SELECT rowid FROM m WHERE e MATCH '[0]' AND k = 2 AND ok = 1

SELECT rowid FROM m WHERE e MATCH '[0]' AND k = 2 AND ok = TRUE

SELECT rowid FROM m WHERE e MATCH '[0]' AND k = 2 AND ok != 1

SELECT rowid FROM m WHERE e MATCH '[0]' AND k = 2 AND ok

SELECT rowid FROM m WHERE e MATCH '[0]' AND k = 2 AND n = 20

SELECT rowid FROM m WHERE e MATCH '[0]' AND k = 2 AND n > 10

SELECT rowid FROM m WHERE e MATCH '[0]' AND k = 2 AND n >= 20

SELECT rowid FROM m WHERE e MATCH '[0]' AND k = 2 AND n < 20

SELECT rowid FROM m WHERE e MATCH '[0]' AND k = 2 AND n <= 10

SELECT rowid FROM m WHERE e MATCH '[0]' AND k = 2 AND n != 10

SELECT rowid FROM m WHERE e MATCH '[0]' AND k = 2 AND n IN (30, -40)

SELECT rowid FROM m WHERE e MATCH '[0]' AND k = 2 AND f > 1.0

SELECT rowid FROM m WHERE e MATCH '[0]' AND k = 2 AND f = 2.5

SELECT rowid FROM m WHERE e MATCH '[0]' AND k = 2 AND f BETWEEN 0 AND 2

SELECT rowid FROM m WHERE e MATCH '[0]' AND k = 2 AND t = 'alpha'

SELECT rowid FROM m WHERE e MATCH '[0]' AND k = 2 AND t > 'alphabet'

SELECT rowid FROM m WHERE e MATCH '[0]' AND k = 2 AND t != 'beta'

SELECT rowid FROM m WHERE e MATCH '[0]' AND k = 2 AND t IN ('beta', 'gamma rays of much length')

SELECT rowid FROM m WHERE e MATCH '[0]' AND k = 2 AND t >= 'b' AND n > 20

SELECT rowid FROM m WHERE e MATCH '[0]' AND k = 2 AND t LIKE 'alpha%'

SELECT rowid FROM m WHERE e MATCH '[0]' AND k = 2 AND ok IN (1, 0)

SELECT rowid FROM m WHERE e MATCH '[0]' AND k = 2 AND f IN (0.5)

SELECT rowid FROM m WHERE e MATCH '[0]' AND k = 2 AND ok > 0

SELECT rowid FROM m WHERE n = 20

SELECT rowid FROM m WHERE t LIKE 'alpha%'

INSERT INTO m(rowid, e, ok, n, f, t) VALUES (9, '[1]', 2, 10, 0.5, 'x')

INSERT INTO m(rowid, e, ok, n, f, t) VALUES (9, '[1]', 1, 'ten', 0.5, 'x')

INSERT INTO m(rowid, e, ok, n, f, t) VALUES (9, '[1]', 1, 1.5, 0.5, 'x')

INSERT INTO m(rowid, e, ok, n, f, t) VALUES (9, '[1]', 1, 10, 'x', 'x')

INSERT INTO m(rowid, e, ok, n, f, t) VALUES (9, '[1]', 1, 10, 0.5, 5)

INSERT INTO m(rowid, e, ok, n, f, t) VALUES (12, '[1]', NULL, 10, 0.5, 'x')

INSERT INTO m(rowid, e, ok, n, f, t) VALUES (10, '[1]', 1, 10, 0.5, NULL)

UPDATE m SET n = 11, t = 'changed to a longer text', ok = 0, f = 9.5 WHERE rowid = 1

UPDATE m SET n = 'ten' WHERE rowid = 1

SELECT * FROM m WHERE rowid = 1

INSERT INTO m(rowid, e, ok, n, f, t) VALUES (11, '[1]', 1, 10, 0.5, printf('%.70000c', 'x'))

SELECT rowid, length(t) FROM m WHERE rowid = 11

-- # auxiliary columns

CREATE VIRTUAL TABLE x USING vec0(e float[1], +note text, +data blob, +n integer)

INSERT INTO x(rowid, e, note, data, n) VALUES (1, '[1]', 'one', x'0102', 5), (2, '[2]', NULL, NULL, NULL)

SELECT * FROM x

SELECT rowid, note, data, n, distance FROM x WHERE e MATCH '[0]' AND k = 2

SELECT rowid FROM x WHERE e MATCH '[0]' AND k = 2 AND note = 'one'

SELECT rowid FROM x WHERE note = 'one'

UPDATE x SET note = 'two' WHERE rowid = 2

INSERT INTO x(rowid, e, n) VALUES (3, '[3]', 'many')

INSERT INTO x(rowid, e, note) VALUES (4, '[3]', 4)

SELECT rowid, note FROM x WHERE rowid = 2

DELETE FROM x WHERE rowid = 1

SELECT count(*) FROM x WHERE rowid < 3

-- # conflicts

CREATE VIRTUAL TABLE o USING vec0(e float[1])

INSERT INTO o(rowid, e) VALUES (1, '[1]')

INSERT OR IGNORE INTO o(rowid, e) VALUES (1, '[2]')

INSERT OR REPLACE INTO o(rowid, e) VALUES (1, '[3]')
