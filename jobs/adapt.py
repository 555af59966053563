"""Adapt the meta-learned fusion to a new rig: with a few labelled frames, or none.

python jobs/adapt.py --config configs/demo.yaml output.dir=runs/demo/adapt
"""

import sys

from metafuse_ray.config.job import run_job
from metafuse_ray.runs.adapt import adapt

if __name__ == "__main__":
    sys.exit(run_job(__doc__, adapt))
