"""Matchers: how two sets of features become scores and logits."""
