"""Kahneman-Tversky optimization (KTO), as an aligner plugin."""
