"""Offline training: stages that train on rows which exist before the step starts."""
