"""What several commands do alike: find themselves, take a recipe, keep chatter, and end."""
