"""Options of stages: validation, field look-up, JSON Schema, documentation page.

Import from the module that has the name: `validation` is light, the schema is not.
"""
