"""Backbones, fusion models, losses."""
