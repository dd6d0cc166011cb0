"""Noise: which image is shown with which caption during training."""
