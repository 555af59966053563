"""Comparison of the methods: tables and pictures."""
