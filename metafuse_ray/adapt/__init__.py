"""Adaptation: the inner loop, fine-tuning of a rig, and the methods under comparison."""
