"""Placeholder until this plugin's hooks are written."""
