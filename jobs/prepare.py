"""Turn a recording's images into task shards.

python jobs/prepare.py --config configs/panoptic.yaml data.sequence=DIR data.shards=DIR
"""

from __future__ import annotations

import sys

from metafuse_ray.config.job import run_job
from metafuse_ray.runs.prepare import prepare

if __name__ == "__main__":
    sys.exit(run_job(__doc__, prepare))
