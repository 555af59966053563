"""Settings: the tree and how it is loaded."""
