"""Batches that go to an accelerator without a wait, and what is still known of them on the CPU."""

from __future__ import annotations

from typing import Any

import torch
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_sce.data.rows import Batch
from recbole_sce.utils.devices import to_device


class HostBatch(Batch):
    """A batch on the CPU; :meth:`to` copies it to CUDA through pinned memory, and the host goes on."""

    def to(self, device: Any, selected_field: Any = None) -> Batch:
        """Return the batch on ``device`` (RecBole: ``Interaction.to``)."""
        if selected_field is not None:
            return super().to(device, selected_field)
        return _DeviceBatch(self, torch.device(device))


class _DeviceBatch(Batch):
    """A batch on another device that remembers where its tensors come from."""

    def __init__(self, host: Interaction, device: torch.device) -> None:
        super().__init__({field: to_device(column, device) for field, column in host.interaction.items()})
        self.origins = {
            field: (column, host.interaction[field]) for field, column in self.interaction.items()
        }


def move(batch: Interaction, device: torch.device) -> Interaction:
    """Return a batch of the CPU on ``device``; the host does not wait for a copy to CUDA."""
    return HostBatch(batch.interaction).to(device)


def on_host(batch: Interaction, field: str) -> Tensor:
    """Return a field of a batch on the CPU.

    No accelerator is waited for where the batch comes from a :class:`HostBatch` and the field is unchanged.
    """
    column: Tensor = batch[field]
    if isinstance(batch, _DeviceBatch):
        origin: Tensor
        copied, origin = batch.origins.get(field, (None, column))
        if copied is column and not column.is_inference() and column._version == 0:
            return origin
    return column.cpu()
