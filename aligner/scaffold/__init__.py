"""Write a recipe for a model and data that were looked at."""
