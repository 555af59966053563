"""Compare the methods on rigs of held-out cameras: tables and pictures.

python jobs/evaluate.py --config configs/demo.yaml output.dir=runs/demo/evaluate
python jobs/evaluate.py --config configs/published.yaml --resume  # after an interruption
"""

import sys

from metafuse_ray.config.job import run_job
from metafuse_ray.runs.evaluate import evaluate

if __name__ == "__main__":
    sys.exit(run_job(__doc__, evaluate))
