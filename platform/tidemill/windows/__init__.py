"""Windows over event time: declared once, made of rows in any pieces, on any engine."""
