"""Load, keep and save artifacts; adapters on, off, merged and stacked."""
