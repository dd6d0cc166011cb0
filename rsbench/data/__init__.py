"""Datasets: cards, the packed store, and how raw files become one."""
