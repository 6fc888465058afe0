"""One module per command: its name, help text and arguments."""
