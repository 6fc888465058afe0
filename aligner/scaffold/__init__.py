"""Write recipes and plugins to start from."""
