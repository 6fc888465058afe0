"""Render conversations through a tokenizer's chat template."""
