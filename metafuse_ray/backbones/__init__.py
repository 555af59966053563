"""Single-view pose networks: one file each."""
