"""Performance history for Apple's MLX."""

__version__ = "0.1.0"
