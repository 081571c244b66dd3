"""benchmarks/quality.py with the models of the studies known to it, for instance:

python benchmarks/studies/run.py run --models moments=SASRecMomentsSCE --taylor=False
"""

import sys
from pathlib import Path

import bucket_choices  # noqa: F401  (registers its model)
import completed_softmax  # noqa: F401  (registers its models)
import original_sasrec  # noqa: F401  (registers its model)
import target_weights  # noqa: F401  (registers its model)

sys.path.append(str(Path(__file__).parents[1]))
from harness.quality import main

if __name__ == "__main__":
    sys.exit(main())
