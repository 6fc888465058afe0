"""Store tokenized rows on disk, cached by the hash of all that determines them."""
