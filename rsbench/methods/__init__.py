"""Methods: one small file each, its torch-free card beside it in ``cards/``."""
