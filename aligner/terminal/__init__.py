"""How things look in a terminal, wide or narrow, or in a file."""
