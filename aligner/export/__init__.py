"""Export the model of a step as a folder that transformers or peft loads."""
