"""`python tests/jobs/helpers/shop_job.py MODULE ARGUMENTS...`: an entry point of the project, on the dataset `shop`."""

import runpy
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from shop import SHOP

import schemas.dataset

if __name__ == "__main__":
    schemas.dataset._registry = lambda: {"shop": SHOP}
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
