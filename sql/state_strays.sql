-- -> id of a row beside the one
SELECT id FROM {state} WHERE id <> 1
