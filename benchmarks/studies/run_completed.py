"""benchmarks/quality.py with the models of completed_softmax.py known to it, for instance:

python benchmarks/studies/run_completed.py run --models uniform=SASRecUniformSCE --n_uniform=256
"""

import sys

import completed_softmax  # noqa: F401  (registers its models)

from recbole_sce.bench.quality import main

if __name__ == "__main__":
    sys.exit(main())
