-- Renames the shadow tables after their table: {new} is the new name, escaped for use between double quotes, {number} what follows the names of the second vector column and so on.
ALTER TABLE {config} RENAME TO "{new}_config{number}";
ALTER TABLE {state} RENAME TO "{new}_state{number}";
ALTER TABLE {centroids} RENAME TO "{new}_centroids{number}";
ALTER TABLE {lists} RENAME TO "{new}_lists{number}";
ALTER TABLE {codes} RENAME TO "{new}_codes{number}";
ALTER TABLE {vectors} RENAME TO "{new}_vectors{number}";
ALTER TABLE {rowids} RENAME TO "{new}_rowids{number}";
