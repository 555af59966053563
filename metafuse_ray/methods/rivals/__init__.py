"""What both models are compared with."""
