#!/bin/sh
# Finds Debian packages like a given one: `./search.sh gnuchess`. Needs the sqlite3 shell, and the library that cargo built or
# that SQLITE_IVF_LIBRARY names.
set -eu
data=$(cd "$(dirname "$0")/../data" && pwd)
library=${SQLITE_IVF_LIBRARY:-$(dirname "$0")/../../target/release/libsqlite_ivf}
name=$(printf %s "${1:-gnuchess}" | sed "s/'/''/g")

sqlite3 <<SQL
.bail on
.load $library
.mode ascii
.separator "\037" "\n"
CREATE TABLE texts(text TEXT);
.import $data/debian-packages.txt texts
.mode list

-- 384 numbers of 2 bytes for each line.
CREATE VIRTUAL TABLE packages USING ivf(vec float16[384] distance_metric=cosine, +text TEXT);
INSERT INTO packages(rowid, vec, text)
  SELECT rowid, substr((SELECT readfile('$data/debian-packages.f16')), 768 * rowid - 767, 768), text FROM texts;

.separator " "
SELECT 'no package $name' WHERE NOT EXISTS (SELECT 1 FROM texts WHERE text LIKE '$name: %');
SELECT printf('%.3f', distance), text FROM packages
 WHERE vec MATCH (SELECT vec FROM packages WHERE rowid = (SELECT rowid FROM texts WHERE text LIKE '$name: %')) AND k = 6
 ORDER BY distance;

-- A table trains by itself at 10,000 rows. A command trains a smaller one; searches then read the nearest lists.
INSERT INTO packages(packages) VALUES ('train');
SELECT training FROM ivf_stats('packages');
SQL
