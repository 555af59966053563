"""Task shards: Arrow files, manifest, splits."""
