"""The only layer that knows Ray."""
