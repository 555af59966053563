"""MetaFuse+: calibrate, and fuse with weights that fade with doubt."""
