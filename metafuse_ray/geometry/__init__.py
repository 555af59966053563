"""Cameras, rigs, crops, epipolar geometry and triangulation: NumPy float64 only."""
