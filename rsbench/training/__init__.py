"""Training: recipe, seeds, loop, checkpoints."""
