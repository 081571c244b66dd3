"""RecBole's sequential recommenders, trained by Scalable Cross-Entropy.

A model that needs nothing but its encoder is in :mod:`recbole_sce.model.standard`. Any other has a file of
its own, named as in RecBole. :mod:`recbole_sce.model.mixin` has what they share.
"""

from recbole_sce.model.bert4rec import BERT4RecSCE
from recbole_sce.model.caser import CaserSCE
from recbole_sce.model.core import CORESCE
from recbole_sce.model.fearec import FEARecSCE
from recbole_sce.model.fossil import FOSSILSCE
from recbole_sce.model.gcsan import GCSANSCE
from recbole_sce.model.hgn import HGNSCE
from recbole_sce.model.hrm import HRMSCE
from recbole_sce.model.ksr import KSRSCE
from recbole_sce.model.mixin import SCEMixin
from recbole_sce.model.nextitnet import NextItNetSCE
from recbole_sce.model.npe import NPESCE
from recbole_sce.model.s3rec import S3RecSCE
from recbole_sce.model.sasrec import SASRecSCE
from recbole_sce.model.shan import SHANSCE
from recbole_sce.model.sine import SINESCE
from recbole_sce.model.standard import (
    FDSASCE,
    NARMSCE,
    SRGNNSCE,
    STAMPSCE,
    GRU4RecFSCE,
    GRU4RecKGSCE,
    GRU4RecSCE,
    LightSANsSCE,
    SASRecFSCE,
)
from recbole_sce.settings import SCESettings, SettingsError

#: The models that the plugin registers.
MODELS: tuple[type[SCEMixin], ...] = (
    BERT4RecSCE,
    CaserSCE,
    CORESCE,
    FDSASCE,
    FEARecSCE,
    FOSSILSCE,
    GCSANSCE,
    GRU4RecSCE,
    GRU4RecFSCE,
    GRU4RecKGSCE,
    HGNSCE,
    HRMSCE,
    KSRSCE,
    LightSANsSCE,
    NARMSCE,
    NextItNetSCE,
    NPESCE,
    S3RecSCE,
    SASRecSCE,
    SASRecFSCE,
    SHANSCE,
    SINESCE,
    SRGNNSCE,
    STAMPSCE,
)

#: Sequential recommenders of RecBole that have no variant here, and why.
NOT_SERVED: dict[str, str] = {
    "RepeatNet": "mixes two distributions, one over the user's own items: no product with one table",
    "GRU4RecCPR": "mixes several softmaxes over partitions of the items: no product with one table",
    "SASRecCPR": "mixes several softmaxes over partitions of the items: no product with one table",
    "FPMC": "RecBole trains it by BPR only; there is no item softmax to replace",
    "TransRec": "ranks by distance and RecBole trains it by BPR only; there is no item softmax to replace",
    "DIN": "predicts clicks on one candidate, whose features enter the encoder: no hidden state without it",
    "DIEN": "predicts clicks on one candidate, whose features enter the encoder: no hidden state without it",
}

__all__ = [
    "MODELS",
    "NOT_SERVED",
    "SCEMixin",
    "SCESettings",
    "SettingsError",
    *sorted(cls.__name__ for cls in MODELS),
]
