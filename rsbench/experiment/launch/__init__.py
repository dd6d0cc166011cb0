"""Launchers: one function each, ``launch(jobs, options, settings, notify) -> iterator of outcomes`` (see ``base``)."""
