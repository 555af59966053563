"""The sweep over a problem's step sizes (Ray Tune)."""
