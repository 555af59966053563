"""Film a simulated dome into task shards: no recording needed.

python jobs/simulate.py --config configs/demo.yaml
"""

import sys

from metafuse_ray.config.job import run_job
from metafuse_ray.runs.simulate import simulate

if __name__ == "__main__":
    sys.exit(run_job(__doc__, simulate))
