"""Counting operations without a second copy of the parameters."""

from __future__ import annotations

import copy

from torch import nn


def light_copy(model: nn.Module) -> nn.Module:
    """Return a copy of a model that shares its parameters and buffers; a deep copy of it is itself.

    ``recbole.utils.get_flops`` works on a deep copy, because it registers hooks and counters on modules. It
    changes no parameter, so that it can work on this copy instead, which leaves a large table where it is.
    """
    tensors = (*model.parameters(), *model.buffers())
    light: nn.Module = copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})
    light.__dict__["__deepcopy__"] = lambda memo: light
    return light
