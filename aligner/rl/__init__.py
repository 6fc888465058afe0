"""RL engine: prompts, rollouts, rewards, guards, optimizer loop and checkpoints of online stages."""
