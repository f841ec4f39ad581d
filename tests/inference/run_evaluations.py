"""Several evaluations in one process or in each of several, which starts the libraries once.

python -m tests.inference.run_evaluations '[["--dataset", "loveda", ...], ...]'
"""

import json
import sys

import torch

from geoclick.inference import evaluate

if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(max(evaluate.main(words) for words in json.loads(sys.argv[1])))
