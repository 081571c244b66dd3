"""What a run needs of the machine, checked before it reads data: the device and the folders it asks for."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from typing import Any

from recbole_sce.cli.errors import InputError


def check_device(config: Mapping[str, Any], overrides: Mapping[str, str]) -> None:
    """Refuse a GPU that is asked for on the command line and not there.

    RecBole asks for one by default, and takes the CPU where there is none; so do settings in files.

    Raises:
        InputError: the GPU is not there, or ``device`` is set, which RecBole sets itself.
    """
    choice = "leave it out to take a GPU where there is one, or set --use_gpu=False for the CPU"
    if "device" in overrides:
        raise InputError(
            f"device must be left to RecBole, got --device={overrides['device']}: "
            f"--gpu_id=0 and the like choose a GPU; {choice}"
        )
    asked = [f"--{key}={overrides[key]}" for key in ("use_gpu", "gpu_id") if key in overrides]
    if not asked or config["use_gpu"] is False or config["gpu_id"] in ("", "-1"):
        return
    if config["device"].type == "cpu":
        import torch

        raise InputError(
            f"{asked[0]}: torch {torch.__version__} sees no such GPU (CUDA_VISIBLE_DEVICES is now "
            f"{os.environ.get('CUDA_VISIBLE_DEVICES')!r}); {choice}"
        )


def check_folders(config: Mapping[str, Any]) -> None:
    """Make the folders that RecBole writes to, and check that files can be made in them.

    Raises:
        InputError: they cannot; the message names the folder and what chooses it.
    """
    for folder in ("log", "log_tensorboard"):
        _check_folder(folder, f"run in a folder that you may write to; RecBole writes {folder}/ there")
    _check_folder(config["checkpoint_dir"], "set checkpoint_dir to a folder that you may write to")


def _check_folder(folder: str, advice: str) -> None:
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(
            f"{os.path.abspath(folder)} cannot be written ({error.strerror}): {advice}"
        ) from None
