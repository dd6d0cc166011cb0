"""rsbench: a benchmark suite for noise-robust image-text retrieval."""

__version__ = "0.1.0"
