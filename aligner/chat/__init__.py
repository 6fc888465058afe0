"""Chat with the model of a finished step, and answer files of prompts."""
