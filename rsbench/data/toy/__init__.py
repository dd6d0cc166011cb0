"""The toy dataset: scenes, pictures and captions from a seed."""
