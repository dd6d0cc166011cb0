"""Experiments: what one run is, the plan of many, and how they are launched."""
