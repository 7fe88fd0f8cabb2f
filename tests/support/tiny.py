"""Training that learns next to nothing in seconds: `--config tiny`, which this module adds."""

import sys

from train import fit
from train.config import CONFIGURATIONS

TINY = CONFIGURATIONS["tiny"] = {
    "steps_per_epoch": 2,
    "patients_per_batch": 2,
    "controls_per_batch": 1,
    "scales": ((1.0, 0.25),),
}

if __name__ == "__main__":
    sys.exit(fit.main())
