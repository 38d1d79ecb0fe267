-- The vector of row ?1 of the table that an index is over.
SELECT c.{content_vector} FROM {content} AS c WHERE c.{content_rowid} = ?1
