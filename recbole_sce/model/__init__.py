"""RecBole's sequential recommenders, trained by Scalable Cross-Entropy."""

from recbole_sce.model.sasrec import SASRecSCE
from recbole_sce.model.sce import SCEMixin
from recbole_sce.model.settings import SCESettings, SettingsError

#: The models that the plugin registers.
MODELS: tuple[type[SCEMixin], ...] = (SASRecSCE,)

__all__ = ["MODELS", "SASRecSCE", "SCEMixin", "SCESettings", "SettingsError"]
