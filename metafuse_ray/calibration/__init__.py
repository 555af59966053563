"""Calibration of a rig, and how uncertain it is."""
