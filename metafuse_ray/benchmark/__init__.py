"""Who is compared on what."""
