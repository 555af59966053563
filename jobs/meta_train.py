"""Meta-train the fusion weights on a Ray cluster (or in process, for a debugger).

python jobs/meta_train.py --config configs/demo.yaml
python jobs/meta_train.py --config configs/demo.yaml --resume  # after an interruption
"""

import sys

from metafuse_ray.config.job import run_job
from metafuse_ray.runs.meta_train import meta_train

if __name__ == "__main__":
    sys.exit(run_job(__doc__, meta_train))
