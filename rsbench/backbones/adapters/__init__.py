"""Adapters: small trained modules beside frozen towers. Each starts as the identity: its last layer is zero."""
