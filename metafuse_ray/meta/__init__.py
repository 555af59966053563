"""The outer loop: tasks, workers, pools, trainer, checkpoints."""
