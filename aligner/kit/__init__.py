"""The public interface for plugins: `aligner.kit.declare` loads no torch, `aligner.kit.work` does."""
