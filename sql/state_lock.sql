-- Changes nothing. With a shared cache it fails while another connection reads the table.
UPDATE {state} SET rows = rows WHERE 0
