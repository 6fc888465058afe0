"""Write a step's model as a plain folder that loads anywhere, proven to be the same model."""
