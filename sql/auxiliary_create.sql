-- Makes the shadow table of auxiliary values and text keys.
CREATE TABLE {auxiliary}(rowid INTEGER PRIMARY KEY{auxiliary_columns});
