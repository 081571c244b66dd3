"""The switch between PyTorch operations and the kernels of :mod:`recbole_sce.loss.ops.triton_kernels`.

The kernels were tested in Triton's interpreter only. Until somebody has measured them on a GPU, they are used
where the environment variable ``RECBOLE_SCE_TRITON`` is 1, and nowhere else.
"""

from __future__ import annotations

import logging
import os
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

import torch
from torch import Tensor

SWITCH = "RECBOLE_SCE_TRITON"
#: The oldest compute capability for which the kernels, as compiled, keep their numbers in registers. For 7.5
#: and, from Triton 3.9 on, 8.0 they spill up to 3,600 bytes a thread (tests/loss/compile_kernels.py).
LEAST_CAPABILITY = (8, 6)


def kernels_for(tensor: Tensor) -> ModuleType | None:
    """Return the module of kernels if it is to work on ``tensor``, None where PyTorch operations are.

    It works on tensors of a CUDA device of compute capability 8.6 or later (of any device in Triton's
    interpreter, ``TRITON_INTERPRET=1``) in float32 and half precisions. On an older one PyTorch operations
    are used, and a warning says so once.

    Raises:
        ValueError: the variable is neither 0 nor 1.
        ModuleNotFoundError: kernels are asked for and triton is not installed.
    """
    setting = os.environ.get(SWITCH, "0")
    if setting not in ("0", "1"):
        raise ValueError(f"{SWITCH} must be 0 or 1, got {setting!r}")
    if setting == "0" or not (tensor.is_cuda or os.environ.get("TRITON_INTERPRET") == "1"):
        return None
    if find_spec("triton") is None:
        raise ModuleNotFoundError(f"{SWITCH}: 1 needs triton, which is not installed: pip install triton")
    if tensor.is_cuda and not _suits(torch.cuda.get_device_capability(tensor.device)):
        return None
    kernels = import_module("recbole_sce.loss.ops.triton_kernels")
    return kernels if kernels.supports(tensor.dtype) else None


@lru_cache
def _suits(capability: tuple[int, int]) -> bool:
    """Return whether the kernels suit devices of this compute capability; warn once where they do not."""
    if capability >= LEAST_CAPABILITY:
        return True
    given, least = (".".join(map(str, numbers)) for numbers in (capability, LEAST_CAPABILITY))
    logging.getLogger().warning(
        f"{SWITCH}: 1 needs a GPU of compute capability {least} or later, got {given}: PyTorch operations "
        "are used instead"
    )
    return False
