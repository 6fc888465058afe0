"""Render conversations through a chat template, in a process with limited memory and time."""
