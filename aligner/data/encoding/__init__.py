"""Tokenize rows with exact loss masks and prepare the data of a step."""
