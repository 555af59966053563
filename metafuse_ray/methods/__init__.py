"""The methods: one row each in `table`."""
