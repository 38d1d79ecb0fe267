-- Makes the shadow table of metadata columns.
CREATE TABLE {metadata}(segment INTEGER PRIMARY KEY, data BLOB);
