-- Renames the shadow tables after their table: {new} is the new name, escaped for use between double quotes.
ALTER TABLE {config} RENAME TO "{new}_config";
ALTER TABLE {state} RENAME TO "{new}_state";
ALTER TABLE {centroids} RENAME TO "{new}_centroids";
ALTER TABLE {lists} RENAME TO "{new}_lists";
ALTER TABLE {codes} RENAME TO "{new}_codes";
ALTER TABLE {vectors} RENAME TO "{new}_vectors";
ALTER TABLE {rowids} RENAME TO "{new}_rowids";
