"""Find data, read its rows and convert them to aligner's row kinds."""
