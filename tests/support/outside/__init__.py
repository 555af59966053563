"""What a lab adds to the package without touching it: one file each, and a row in a table.

`tests/integration/test_extension.py` adds the rows and runs the jobs.
"""
