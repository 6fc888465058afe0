"""The public interface for plugins."""
