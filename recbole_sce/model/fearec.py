"""FEARec (Du et al., 2023) trained by Scalable Cross-Entropy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from recbole.data.interaction import Interaction
from recbole.model.sequential_recommender import FEARec
from torch import Tensor

from recbole_sce.data.transfer import move, on_host
from recbole_sce.model.mixin import SCEMixin
from recbole_sce.settings import SCESettings, SettingsError

if TYPE_CHECKING:
    from recbole.config import Config
    from recbole.data.dataset import SequentialDataset

_CONTRASTS = ("un", "su", "us", "us_x")


class FEARecSCE(SCEMixin, FEARec):  # type: ignore[misc]
    """Self-attention in the frequency domain, over the whole sequence (Du et al., 2023).

    There is no contrastive term, as under RecBole's defaults, unless ``contrast`` is un, su, us or us_x.
    """

    @classmethod
    def check_config(cls, config: Config) -> SCESettings:
        """Read this model's settings from ``config``.

        Raises:
            SettingsError: a value is impossible, or one that the contrastive terms need is missing.
        """
        settings = super().check_config(config)
        for key, least, reason in (
            ("n_layers", 2, "RecBole spaces its filters by n_layers - 1"),
            ("MAX_ITEM_LIST_LENGTH", 3, "shorter sequences have too few frequencies"),
        ):
            if config[key] < least:
                raise SettingsError(
                    f"{key} must be at least {least} with {cls.__name__}, got {config[key]}: {reason}"
                )
        if config["contrast"] in _CONTRASTS:
            if not config["tau"]:
                raise SettingsError(f"tau must be a number above 0 with contrast, got {config['tau']!r}")
            if config["sim"] not in ("dot", "cos"):
                raise SettingsError(f"sim must be dot or cos with contrast, got {config['sim']!r}")
        return settings

    def get_same_item_index(self, dataset: SequentialDataset) -> dict[int, npt.NDArray[np.int64]]:
        """Return target -> its training rows: FEARec's own, by one sort in place of a scan for each row."""
        targets = dataset.inter_feat[self.ITEM_ID].numpy()
        order = np.argsort(targets, kind="stable")
        items, starts = np.unique(targets[order], return_index=True)
        return dict(zip(items.tolist(), np.split(order, starts[1:])))

    def extra_loss(self, interaction: Interaction, hidden: Tensor) -> Tensor:
        """Return contrastive terms, where ``contrast`` asks for them.

        A state is drawn to itself under other dropout (``lmd``), and to the state of another training row
        with the same target (``lmd_sem``); us_x draws these two to each other, and with ``fredom`` their
        spectra.
        """
        loss = hidden.new_zeros(())
        if self.ssl not in _CONTRASTS:
            return loss
        if self.ssl != "su":
            again = self.encode(interaction)  # (B, d)
        if self.ssl != "un":
            same_target = self.encode(self._rows_of_same_target(interaction))  # (B, d)
        if self.ssl in ("un", "us"):
            loss = loss + self.lmd * self._contrast(hidden, again)
        if self.ssl in ("su", "us"):
            loss = loss + self.lmd_sem * self._contrast(hidden, same_target)
        if self.ssl == "us_x":
            loss = loss + self.lmd_sem * self._contrast(again, same_target)
            if self.fredom:
                if self.fredom_type in ("un", "us"):
                    loss = loss + 0.1 * _spectral_distance(hidden, again)
                if self.fredom_type in ("su", "us"):
                    loss = loss + 0.1 * _spectral_distance(hidden, same_target)
                if self.fredom_type == "us_x":
                    loss = loss + 0.1 * _spectral_distance(again, same_target)
        return loss

    def _contrast(self, states: Tensor, others: Tensor) -> Tensor:
        logits, labels = self.info_nce(states, others, self.tau, len(states), self.sim)
        loss: Tensor = self.aug_nce_fct(logits, labels)
        return loss

    def _rows_of_same_target(self, interaction: Interaction) -> Interaction:
        """Draw, for each row, a training row with the same target and another history, if there is one."""
        rows_of_targets = [self.same_item_index[item] for item in on_host(interaction, self.ITEM_ID).tolist()]
        candidates = [torch.from_numpy(rows)[torch.randperm(len(rows))] for rows in rows_of_targets]
        counts = torch.tensor([len(rows) for rows in candidates])  # (B,)
        chosen = torch.stack([rows[0] for rows in candidates])  # (B,)
        histories = on_host(interaction, self.ITEM_SEQ)  # (B, L)
        open_rows = torch.arange(len(chosen))
        for attempt in range(1, int(counts.max())):
            equal = (self.dataset[chosen[open_rows]][self.ITEM_SEQ] == histories[open_rows]).all(1)
            open_rows = open_rows[equal & (counts[open_rows] > attempt)]
            if len(open_rows) == 0:
                break
            chosen[open_rows] = torch.stack([candidates[row][attempt] for row in open_rows.tolist()])
        return move(self.dataset[chosen], self.device)


def _spectral_distance(states: Tensor, others: Tensor) -> Tensor:
    spectra = torch.fft.rfft(torch.stack((states, others)), norm="ortho")  # (2, B, d // 2 + 1)
    return torch.mean(torch.abs(spectra[0] - spectra[1]))
