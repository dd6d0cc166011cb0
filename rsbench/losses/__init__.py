"""Pair-wise losses before reduction: pure functions of tensors."""
