"""Everything between a file somebody wrote and the token ids a model trains on."""
