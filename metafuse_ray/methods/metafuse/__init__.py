"""MetaFuse: the published model."""
