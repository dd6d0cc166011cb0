"""What is known of each backbone before torch is imported."""
