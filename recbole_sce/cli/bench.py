"""``recbole-sce bench``: what the losses cost on this machine."""

from __future__ import annotations

from typing import Annotated

import typer
from typer import Option

from recbole_sce.cli.errors import InputError
from recbole_sce.cli.options import OneValueEach, split_values

DEFAULT_CASES = "2048x1e4,2048x1e5,2048x1e6,12800x1e5"

bench = typer.Typer(
    no_args_is_help=True,
    help="Measure time and memory on this machine.\n\nThe options: recbole-sce bench loss --help",
)


@bench.callback()
def _group() -> None:
    """Measure time and memory on this machine."""


@bench.command(cls=OneValueEach)
def loss(
    cases: Annotated[
        list[str] | None,
        Option(
            help="Hidden states x items, separated by commas or repeated: 2048x1e5,2048x1e6.  "
            f"[default: {DEFAULT_CASES}]"
        ),
    ] = None,
    width: Annotated[int, Option(min=1, help="Width of states and items.")] = 64,
    bucket_size_y: Annotated[int, Option(min=1, help="Items per bucket, and negatives of CE-.")] = 256,
    dtype: Annotated[str, Option(help="float32, float64, bfloat16 or float16.")] = "float32",
    device: Annotated[str, Option(help="cpu, cuda, cuda:1, ...")] = "cpu",
    threads: Annotated[int | None, Option(min=1, help="Threads of torch.  [default: torch's]")] = None,
    repeats: Annotated[int, Option(min=1, help="Timed steps.")] = 5,
    max_logits: Annotated[float, Option(help="Leave out losses of N x C work beyond this.")] = 5e8,
    timeout: Annotated[float, Option(help="Seconds that each loss may take.")] = 600,
) -> None:
    """Compare the losses: seconds and peak memory of a training step, by size of batch and catalogue.

    Each loss runs in a process of its own. Memory is what a step takes beyond inputs and gradients.
    """
    import torch

    from recbole_sce.cli import loss_steps

    if dtype not in loss_steps.DTYPES:
        raise InputError(f"--dtype must be one of {', '.join(loss_steps.DTYPES)}, got {dtype!r}")
    try:
        sizes = [loss_steps.parse_size(text) for text in split_values(cases or [DEFAULT_CASES])]
    except ValueError as error:
        raise InputError(f"--cases {error}") from None
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"--device must be a device of this machine, got {device!r} ({reason})") from None
    threads = threads or torch.get_num_threads()
    base = loss_steps.Case(
        width=width, bucket_size_y=bucket_size_y, dtype=dtype, device=device, threads=threads, repeats=repeats
    )
    print(loss_steps.table(loss_steps.run(sizes, base, max_logits=max_logits, timeout=timeout)))
