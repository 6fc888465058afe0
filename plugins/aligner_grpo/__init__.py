"""Group relative policy optimization (GRPO), as an aligner plugin."""
