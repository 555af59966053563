"""Fetch the weights of the pose backbone into the cache, or verify those that are there.

    python jobs/fetch_backbone.py

`jobs/prepare.py` does the same on first use; this is for machines that will have no network then.
"""

from __future__ import annotations

import sys

from metafuse_ray.config.job import run_job
from metafuse_ray.runs.prepare import fetch_backbone

if __name__ == "__main__":
    sys.exit(run_job(__doc__, fetch_backbone))
