"""Launchers: one function each, ``launch(jobs, options, slots, notify) -> iterator of outcomes``."""
