"""Batches of a rig, episodes, and the joints found in them."""
