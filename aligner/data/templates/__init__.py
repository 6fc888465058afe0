"""Chat templates, rendered in a process whose memory and processor time are limited."""
