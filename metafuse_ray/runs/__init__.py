"""One function a job: what jobs/*.py call."""
