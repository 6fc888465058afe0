"""The public interface for plugins.

`aligner.kit.declare` and `aligner.kit.rows` load no torch, `aligner.kit.work` does.
"""
