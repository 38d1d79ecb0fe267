-- Makes the shadow tables of a new table.
CREATE TABLE {config}(key TEXT PRIMARY KEY, value);
CREATE TABLE {state}(id INTEGER PRIMARY KEY, uuid BLOB, ver BLOB, stamp BLOB, rows INTEGER, generation INTEGER, nlist INTEGER, centroids INTEGER, checksum INTEGER);
CREATE TABLE {centroids}(chunk INTEGER PRIMARY KEY, data BLOB);
CREATE TABLE {lists}(segment INTEGER PRIMARY KEY, head BLOB);
CREATE TABLE {codes}(segment INTEGER PRIMARY KEY, data BLOB);
CREATE TABLE {vectors}(segment INTEGER PRIMARY KEY, data BLOB);
