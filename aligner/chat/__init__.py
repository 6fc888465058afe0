"""Let the model of any finished step speak: in a conversation, or to a file of prompts."""
