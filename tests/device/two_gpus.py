"""One of two processes that train together, each on its own simulated GPU; test_processes.py starts them.

    python tests/device/two_gpus.py RANK SETTINGS.json

The file has the settings of each run by its name. Processes meet through gloo. What nccl would refuse is
refused here: tensors that are on the CPU, on the GPU of another process, sparse or not contiguous.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from simulated_cuda import DeviceMismatch, SimulatedCuda

COLLECTIVES = (
    "all_reduce",
    "all_gather",
    "broadcast",
    "reduce",
    "broadcast_object_list",
    "gather_object",
    "all_gather_object",
)


def refuse_what_nccl_refuses(cuda: Any) -> None:
    init = dist.init_process_group

    def init_process_group(backend: str, **more: Any) -> None:
        assert backend == "nccl"
        init("gloo", **more)

    dist.init_process_group = init_process_group  # type: ignore[assignment]
    for name in COLLECTIVES:
        setattr(dist, name, _guarded(name, getattr(dist, name), cuda))


def _guarded(name: str, collective: Any, cuda: Any) -> Any:
    def call(*arguments: Any, **more: Any) -> Any:
        if more.get("group") is None:
            for leaf in torch.utils._pytree.tree_leaves((arguments, more)):
                if isinstance(leaf, torch.Tensor):
                    _check(name, leaf, cuda)
        return collective(*arguments, **more)

    return call


def _check(name: str, tensor: torch.Tensor, cuda: Any) -> None:
    if not tensor.is_cuda:
        raise DeviceMismatch(f"{name}: no backend for a tensor of the CPU")
    if tensor.device.index != cuda.current:
        raise DeviceMismatch(f"{name}: a tensor on {tensor.device}, the GPU of another process")
    if tensor.is_sparse or not tensor.is_contiguous():
        raise DeviceMismatch(f"{name}: a tensor that is sparse or not contiguous")


def main(rank: str, settings: str) -> None:
    sys.argv = sys.argv[:1]
    torch.set_num_threads(1)
    runs = json.loads(Path(settings).read_text(encoding="utf-8"))
    cuda = SimulatedCuda(n_devices=2)
    refuse_what_nccl_refuses(cuda)
    from recbole.quick_start import quick_start

    logging.disable(logging.CRITICAL)
    place = {"nproc": 2, "world_size": 2, "offset": 0, "ip": "localhost", "local_rank": int(rank)}
    results = {}
    for name, given in runs.items():
        with cuda:
            outcome = quick_start.run_recbole(given.pop("model"), "tiny", None, {**given, **place})
            assert cuda.current == int(rank)
        results[name] = {metric: float(value) for metric, value in (outcome["test_result"] or {}).items()}
    print(json.dumps(results))


if __name__ == "__main__":
    import recbole_sce  # noqa: F401  (registers)

    main(*sys.argv[1:])
