"""Backbones: two towers that turn images and captions into features of one joint space."""
