"""The simulated dome."""
