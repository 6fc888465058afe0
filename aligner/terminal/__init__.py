"""Output for terminals, wide or narrow, and for files."""
