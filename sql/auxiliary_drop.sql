-- Drops the shadow table of auxiliary values and text keys.
DROP TABLE IF EXISTS {auxiliary};
