"""Recordings in: one file a format."""
