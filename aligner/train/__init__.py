"""What every stage that trains shares: options, the loop, checkpoints, progress, packing."""
