"""Ranks, retrieval metrics and noise detection."""
