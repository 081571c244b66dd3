"""S3-Rec (Zhou et al., 2020), fine-tuned by Scalable Cross-Entropy."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from recbole.data.interaction import Interaction
from recbole.model.sequential_recommender import S3Rec
from torch import Tensor

from recbole_sce.model.mixin import SCEMixin
from recbole_sce.settings import SCESettings, SettingsError

if TYPE_CHECKING:
    from recbole.config import Config


class S3RecSCE(SCEMixin, S3Rec):  # type: ignore[misc]
    """Causal self-attention, pre-trained on item attributes (Zhou et al., 2020).

    Fine-tunes what RecBole's own S3Rec has pre-trained (``train_stage: pretrain``): ``pre_model_path``.
    RecBole's softmax counts the mask row as an item; this one does not.
    """

    causal = True
    ignores_padding = True

    @classmethod
    def check_config(cls, config: Config) -> SCESettings:
        """Read this model's settings from ``config``.

        Raises:
            SettingsError: a value is impossible, among them a stage other than fine-tuning.
        """
        settings = super().check_config(config)
        stage, path = config["train_stage"], config["pre_model_path"]
        if stage != "finetune":
            raise SettingsError(
                f"train_stage must be finetune with S3RecSCE, got {stage!r}: pre-training has no item "
                "softmax. Run it with model S3Rec, and name the file it saves in pre_model_path"
            )
        if not (isinstance(path, str) and os.path.isfile(path)):
            raise SettingsError(
                "pre_model_path must be a file saved by model S3Rec with train_stage: pretrain, got "
                f"{path!r}: there is no such file"
            )
        return settings

    def item_table(self) -> Tensor:
        """Return ``item_embedding`` without the mask row."""
        table: Tensor = self.item_embedding.weight[: self.mask_token]
        return table

    def encode(self, interaction: Interaction) -> Tensor:
        """Return the hidden states (B, d) after the whole history of each row."""
        return self.gather_indexes(self.encode_positions(interaction), interaction[self.ITEM_SEQ_LEN] - 1)

    def encode_positions(self, interaction: Interaction) -> Tensor:
        """Return the hidden states (B, L, d) after each item of each row's history."""
        hidden: Tensor = self(interaction[self.ITEM_SEQ], bidirectional=False)
        return hidden
