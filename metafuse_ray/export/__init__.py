"""Adapted rigs in files."""
