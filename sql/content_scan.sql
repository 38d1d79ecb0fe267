-- All rows of the table that an index is over that have vectors: rowid, vectors, metadata.
SELECT c.{content_rowid}{content_columns} FROM {content} AS c WHERE {content_has_vectors} ORDER BY c.{content_rowid}
