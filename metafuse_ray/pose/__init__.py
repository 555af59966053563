"""Skeletons and heatmaps."""
