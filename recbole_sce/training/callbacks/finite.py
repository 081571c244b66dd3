"""Numbers that are none: found before a step that would spread them, and named."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from recbole.data.interaction import Interaction
from torch import Tensor, nn

from recbole_sce.errors import FAILED, RecboleSCEError
from recbole_sce.training.callbacks.base import CalculateLoss, Callback

if TYPE_CHECKING:
    from recbole_sce.model.mixin import SCEMixin

#: Most rows of a tensor that a message lists.
_LISTED = 5
#: What helps against weights that grow without bound.
_ADVICE = (
    "A smaller learning_rate, clip_grad_norm: {max_norm: 1, error_if_nonfinite: true}, or inputs without "
    "missing values may help"
)


class NonFiniteError(RecboleSCEError, ValueError):
    """Training met NaN or infinity; the message says when and where. The step was not taken."""

    exit_code = FAILED


class FiniteNumbers(Callback):
    """Ends training before a step whose loss is no number, and after an epoch whose weights are none."""

    def __init__(self, model: SCEMixin) -> None:
        self._model = model
        self._epoch, self._batch = 0, -1
        self._interaction = Interaction({})

    @contextmanager
    def epoch(self, epoch: int, n_steps: int) -> Iterator[None]:
        """Look at the parameters when the steps are done.

        Raises:
            NonFiniteError: one is not finite.
        """
        self._epoch, self._batch = epoch, -1
        yield
        self._interaction = Interaction({})
        if not all_finite(self._model):
            raise NonFiniteError(
                f"epoch {epoch} (from 0): after its last step, not finite: {of_parameters(self._model)}. The "
                f"gradient of that step was not. {_ADVICE}"
            )

    def watched(self, calculate_loss: CalculateLoss) -> CalculateLoss:
        """Return ``calculate_loss`` with the batch of each call noted."""

        def watch(interaction: Any) -> Any:
            self._interaction, self._batch = interaction, self._batch + 1
            return calculate_loss(interaction)

        return watch

    def check(self, loss: Tensor) -> None:
        """Refuse the loss of a step that is not finite, before its gradient reaches a weight.

        Raises:
            NonFiniteError: it is not; the message says in which batch, and what else is not.
        """
        if torch.isfinite(loss):
            return
        raise NonFiniteError(
            f"epoch {self._epoch}, batch {self._batch} (both from 0): the training loss is {loss.item()}; "
            f"not finite: {describe(self._model, self._interaction)}. The step was not taken. {_ADVICE}"
        )


def all_finite(model: nn.Module) -> bool:
    """Return whether all parameters are finite, reading each once and waiting for the device once."""
    sizes = [
        torch.linalg.vector_norm(parameter.detach().float(), torch.inf)
        for parameter in model.parameters()
        if parameter.numel()
    ]
    return not sizes or bool(torch.stack(sizes).isfinite().all())


def of_parameters(model: nn.Module) -> str:
    """Name the parameters that are not finite, with their rows."""
    return "; ".join(_of_parameters(model))


@torch.no_grad()
def describe(model: SCEMixin, interaction: Interaction) -> str:
    """Name what is not finite on the way to the loss of a batch: parameters, inputs, items or hidden states.

    What comes first is named, since all that is made of it is not finite either.
    """
    descriptions = (
        _of_parameters(model)
        or _of_inputs(interaction)
        or _named("item embeddings, row", model.item_table())
        or _of_states(model, interaction)
    )
    return "; ".join(descriptions) or "only the loss (parameters, item embeddings and hidden states are)"


def _of_parameters(model: nn.Module) -> list[str]:
    return [
        text
        for name, parameter in model.named_parameters()
        for text in _named(f"parameter {name}, row", parameter)
    ]


def _of_inputs(interaction: Interaction) -> list[str]:
    return [
        text
        for field, column in interaction.interaction.items()
        if column.is_floating_point()
        for text in _named(f"input {field!r}, batch row", column)
    ]


def _of_states(model: SCEMixin, interaction: Interaction) -> list[str]:
    hidden, _, rows = model.training_states(interaction)  # (N, d), ..., (N,)
    texts = _named("hidden states, row", hidden)
    return [
        f"{text} (batch rows {_listed(torch.unique(rows.cpu()[_bad_rows(hidden).cpu()]))})" for text in texts
    ]


def _named(what: str, tensor: Tensor) -> list[str]:
    bad = _bad_rows(tensor)
    return [f"{what} {_listed(bad)} of {len(tensor) if tensor.dim() else 1}"] if len(bad) else []


def _bad_rows(tensor: Tensor) -> Tensor:
    rows = tensor if tensor.dim() else tensor.unsqueeze(0)
    return (~rows.isfinite().reshape(len(rows), -1).all(1)).nonzero().squeeze(1)


def _listed(rows: Tensor) -> str:
    text = ", ".join(str(row) for row in rows[:_LISTED].tolist())
    return text if len(rows) <= _LISTED else f"{text} and {len(rows) - _LISTED} more"
