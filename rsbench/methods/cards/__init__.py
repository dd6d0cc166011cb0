"""Cards of the built-in methods: hyper-parameters, sources, variants; no torch."""
