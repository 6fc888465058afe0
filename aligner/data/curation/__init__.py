"""Curate rows before they are trained on: clean, redact, part, sample, deduplicate, mix, augment."""

VERSION = 1
"""Raised when curation makes other rows of the same data and options; part of what caches go by."""
