"""Finding a rig's cameras, and how far they are to be doubted."""
