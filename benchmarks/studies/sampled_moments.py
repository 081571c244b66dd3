"""A study: ``complete_softmax`` with moments of a sample of the items, as large catalogues have them.

Catalogues of up to 16,384 items give the moments of all; ``moments_sample`` makes a smaller one take a
sample, so that the effect can be seen where exact cross-entropy is affordable. (Without ``bucket_size_y`` SCE
is exact up to 12,288 items and takes no moments at all.) ``run.py`` trains it.
"""

from typing import Any

from recbole_sce import SASRecSCE, register_model
from recbole_sce.loss import moments


@register_model
class SASRecSampledMomentsSCE(SASRecSCE):
    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        moments._SAMPLE = int(config["moments_sample"])
