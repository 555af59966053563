"""Recordings, the simulated dome, shards and episodes."""
