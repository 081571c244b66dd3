"""What the parts of a step of SCE's loss take, beside exact cross-entropy, in processor time.

    python benchmarks/studies/loss_parts.py 300x3416 1000x3416

One thread. Parts are functions of the package, timed by Python's profiler, by the clock.
"""

import cProfile
import pstats
import statistics
import sys
import time

import torch

from recbole_sce.loss import CrossEntropyLoss, ScalableCrossEntropyLoss

#: Functions, as (file, name), and what they do.
PARTS = {
    ("search.py", "top_rows"): "search for states and items of buckets",
    ("fused.py", "_bucket_sums"): "sums inside the buckets",
    ("fused.py", "_add_gradients"): "gradients inside the buckets",
    ("outside.py", "complete"): "sums and gradients over the sample",
}
_STEPS = 100


class Case:
    """States, items and targets of a size, and steps on them."""

    def __init__(self, n_states: int, n_items: int) -> None:
        torch.manual_seed(0)
        self.hidden = torch.randn(n_states, 64, requires_grad=True)
        self.table = (torch.randn(n_items + 1, 64) * 0.1).requires_grad_()
        self.targets = torch.randint(1, n_items + 1, (n_states,))

    def step(self, loss: torch.nn.Module) -> float:
        """Return the processor seconds of forward and backward."""
        self.hidden.grad = self.table.grad = None
        began = time.process_time()
        loss(self.hidden, self.table, self.targets).backward()
        return time.process_time() - began


def taken(case: Case) -> dict[str, float]:
    """Return the seconds of a step of each loss, and of SCE's parts."""
    losses = {"exact CE": CrossEntropyLoss(), "SCE": ScalableCrossEntropyLoss()}
    steps: dict[str, list[float]] = {name: [] for name in losses}
    for _ in range(_STEPS):
        for name, loss in losses.items():
            steps[name].append(case.step(loss))
    seconds = {name: statistics.median(one) for name, one in steps.items()}
    profile = cProfile.Profile()
    profile.enable()
    for _ in range(_STEPS):
        case.step(losses["SCE"])
    profile.disable()
    for (file, _, name), (_, _, _, cumulative, _) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        part = PARTS.get((file.rsplit("/", 1)[-1], name))
        if part:
            seconds[part] = cumulative / _STEPS
    return seconds


def main(cases: list[str]) -> None:
    torch.set_num_threads(1)
    print("N,C,part,ms,of a step of exact CE")
    for text in cases:
        n_states, n_items = map(int, text.split("x"))
        seconds = taken(Case(n_states, n_items))
        for name, one in seconds.items():
            ratio = one / seconds["exact CE"]
            print(f"{n_states},{n_items},{name},{1e3 * one:.1f},{ratio:.2f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
