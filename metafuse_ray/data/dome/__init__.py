"""The simulated dome: a rig of virtual detectors that films moving, occluding people."""
