"""Search alpha, beta and K, or the step sizes of MetaFuse+, on held-out training cameras.

python jobs/tune.py --config configs/tune.yaml
python jobs/tune.py --config configs/tune.yaml --resume  # after an interruption
"""

import sys

from metafuse_ray.config.job import run_job
from metafuse_ray.runs.tune import tune

if __name__ == "__main__":
    sys.exit(run_job(__doc__, tune))
