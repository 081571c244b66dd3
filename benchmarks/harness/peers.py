"""SASRec of this package beside what a user would take instead: RecBole, RecTools, RePlay.

All get the same log, in the same order, and an encoder of the same size. Each splits the log, trains and
ranks in its own way and with its own defaults, in a process of one thread. One function measures the lists of
all: leave-one-out, all items ranked, those that a user has seen left out. RecTools and RePlay are installed
into environments below ``--work``. Run it with::

    python benchmarks/peers.py run --help
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness import common
from harness.peer_process import ITEM, TIME, USER, PeerCase
from harness.pictures import panels, svg

HERE = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).resolve().parents[1] / "results"
_TORCH = "torch==2.13.0"
#: Fewest interactions of a user and of an item in the log that all get.
_CORE = 5


@dataclass(frozen=True)
class Peer:
    """An implementation of SASRec.

    Attributes:
        name: of its rows.
        program: the module that trains it.
        model, loss, recipe: of the case.
        requirements: of an environment of its own; without, it runs in this one.
        epochs: how many are trained, by data set; of others one.
    """

    name: str
    program: str
    model: str
    loss: str = ""
    recipe: str = ""
    requirements: tuple[str, ...] = ()
    epochs: dict[str, int] = field(default_factory=dict)


_OURS = partial(Peer, program="harness.peer_recbole", model="SASRecSCE")
#: What trains with the loss of the peers: exact cross-entropy against the next item alone.
SAME_LOSS = "recbole_sce, CE, plain"
DEFAULT = "recbole_sce, SCE"
PEERS = (
    _OURS(DEFAULT, loss="SCE", epochs={"ml-1m": 5, "amazon-beauty": 12}),
    _OURS("recbole_sce, CE", loss="CE", epochs={"ml-1m": 4, "amazon-beauty": 8}),
    _OURS(SAME_LOSS, loss="CE", recipe="plain", epochs={"ml-1m": 4, "amazon-beauty": 8}),
    Peer(
        "RecTools",
        "harness.peer_rectools",
        "SASRec",
        requirements=(_TORCH, "rectools[torch]==0.19.0"),
        epochs={"ml-1m": 3},
    ),
    Peer(
        "RePlay",
        "harness.peer_replay",
        "SasRec",
        requirements=(_TORCH, "replay-rec[torch]==0.22.0"),
        epochs={"ml-1m": 3},
    ),
    Peer("RecBole", "harness.peer_recbole", "SASRec"),
)
COLUMNS = (
    "dataset",
    "peer",
    "epoch",
    "training_cpu_seconds",
    "targets",
    "ndcg@10",
    "recall@10",
    "peak_mib",
    "users",
    "items",
    "interactions",
    "package",
    "torch",
    "seed",
)
Row = dict[str, str]


class PeerError(RuntimeError):
    """A peer that failed, or was tested on other items than the rest; the message says which."""


def prepare(source: Path, target: Path) -> pd.DataFrame:
    """Write the log that all peers read, an atomic file, and return it.

    It has users and items with ``_CORE`` interactions or more. Rows are in the order of users and time; of
    equal times, in the order of ``source``. The times are numbers from 1 for each user, so that no peer has
    ties to break in a way of its own: in ml-1m 42 % of the users rated their last two films in one second.
    """
    types = {USER: str, ITEM: str, TIME: np.float64}
    log: pd.DataFrame = pd.read_csv(source, sep="\t", usecols=[USER, ITEM, TIME], dtype=types)
    while True:
        enough = (log.groupby(USER)[ITEM].transform("size") >= _CORE) & (
            log.groupby(ITEM)[USER].transform("size") >= _CORE
        )
        if enough.all():
            break
        log = log[enough]
    log = log.sort_values([USER, TIME], kind="stable")
    log[TIME] = log.groupby(USER).cumcount() + 1
    target.parent.mkdir(parents=True, exist_ok=True)
    log[[USER, ITEM, TIME]].to_csv(target, sep="\t", index=False)
    return log


def held_out(log: pd.DataFrame) -> dict[str, str]:
    """Return the test item of each user: the last of the log."""
    last = log.drop_duplicates(USER, keep="last")
    return dict(zip(last[USER], last[ITEM]))


def quality(lists: dict[str, Sequence[str]], targets: dict[str, str]) -> tuple[float, float]:
    """Return NDCG and recall of top lists, one target a user; a user without a list counts as missed."""
    gains = []
    for user, target in targets.items():
        places = [place for place, item in enumerate(lists.get(user, ())) if item == target]
        gains.append(1 / np.log2(places[0] + 2) if places else 0.0)
    return float(np.mean(gains)), float(np.mean(np.array(gains) > 0))


def environment(peer: Peer, work: Path) -> str:
    """Return the Python of a peer, whose environment is made where it is not there yet."""
    if not peer.requirements:
        return sys.executable
    folder = work / f"env-{peer.name.lower()}"
    python, done = folder / "bin" / "python", folder / ".installed"
    if not done.exists() or done.read_text(encoding="utf-8").split() != list(peer.requirements):
        print(f"  installing {' '.join(peer.requirements)} into {folder}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *peer.requirements], check=True)
        done.write_text(" ".join(peer.requirements), encoding="utf-8")
    return str(python)


def train(
    peer: Peer, case: PeerCase, python: str, targets: dict[str, str], skip: int = 0
) -> Iterator[dict[str, Any]]:
    """Train a peer in a process of its own and yield its record after each epoch later than ``skip``.

    Raises:
        PeerError: the process failed, or its own split holds out other items than ``targets``.
    """
    folder = Path(case.folder)
    folder.mkdir(parents=True, exist_ok=True)
    environ = {
        **os.environ,
        "PYTHONPATH": f"{HERE}{os.pathsep}{HERE / 'benchmarks'}",
        "PYTHONWARNINGS": "ignore",
        "CUDA_VISIBLE_DEVICES": "",
    }
    environ |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    command = [python, "-m", peer.program, json.dumps(asdict(case))]
    with (
        (folder / "errors.txt").open("w+", encoding="utf-8") as errors,
        subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            if not line.startswith('{"epoch"'):
                continue  # some library's own output
            record = json.loads(line)
            check_targets(peer.name, folder / "targets.npz", targets)
            if record["epoch"] > skip:
                kept = np.load(folder / f"lists-{record['epoch']}.npz")
                lists = dict(zip(kept["users"].tolist(), kept["items"].tolist()))
                record["ndcg@10"], record["recall@10"] = quality(lists, targets)
                yield record
        process.wait()
        errors.seek(0)
        last_words = errors.read().strip()[-2000:]
    if process.returncode:
        raise PeerError(f"{peer.name} on {case.dataset} failed: {last_words}")


def check_targets(name: str, path: Path, targets: dict[str, str]) -> None:
    """Make sure that a peer holds out the items that all others do.

    Raises:
        PeerError: it does not.
    """
    kept = np.load(path)
    own = dict(zip(kept["users"].tolist(), kept["items"].tolist()))
    if own != targets:
        differing = sum(own.get(user) != item for user, item in targets.items())
        raise PeerError(
            f"{name} must be tested on the last item of each of {len(targets)} users, got {len(own)} users, "
            f"and other items for {differing} of them"
        )


def run(arguments: argparse.Namespace) -> None:
    """Train each peer on each data set, and add a row to the CSV after each epoch; rows there are kept."""
    rows = read_rows(arguments.csv)
    for dataset in arguments.datasets:
        file = f"{dataset}/{dataset}.inter"
        log = prepare(arguments.data_path / file, arguments.work / "data" / file)
        sizes = {"users": log[USER].nunique(), "items": log[ITEM].nunique(), "interactions": len(log)}
        targets = held_out(log)
        for peer in PEERS:
            if peer.name not in arguments.peers:
                continue
            epochs = arguments.epochs or peer.epochs.get(dataset, 1)
            done = sum(row["dataset"] == dataset and row["peer"] == peer.name for row in rows)
            if done >= epochs:
                print(f"  {dataset}, {peer.name}: all {epochs} epochs are there", file=sys.stderr)
                continue
            folder = arguments.work / "runs" / dataset / peer.name.replace(", ", "-")
            case = PeerCase(
                model=peer.model,
                loss=peer.loss,
                recipe=peer.recipe,
                dataset=dataset,
                data_path=str((arguments.work / "data").resolve()),
                folder=str(folder.resolve()),
                epochs=epochs,
                max_length=arguments.max_length,
                width=64,
                layers=2,
                heads=2,
                k=10,
                seed=arguments.seed,
            )
            for record in train(peer, case, environment(peer, arguments.work), targets, skip=done):
                row = {"dataset": dataset, "peer": peer.name, **sizes, **record, "seed": arguments.seed}
                rows.append({column: _text(row[column]) for column in COLUMNS})
                common.write_csv(arguments.csv, COLUMNS, rows)
                print(f"  {dataset}, {peer.name}: {rows[-1]}", file=sys.stderr)


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def read_rows(path: Path) -> list[Row]:
    """Return the rows that are there."""
    return common.read_csv(path)


def table(rows: Sequence[Row]) -> str:
    """Return what an epoch costs and what it reaches as a Markdown table; a line a peer and data set.

    The ratios are of the time of a target to that of this package: with the loss of the peers alone, exact
    cross-entropy against the next item, and with its defaults.
    """
    lines = [
        "| data set | peer | epochs | targets per epoch | processor s per epoch | µs per target | "
        f"times that of {SAME_LOSS} | of {DEFAULT} | NDCG@10 | recall@10 | peak MiB |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        of_dataset = [row for row in rows if row["dataset"] == dataset]
        cost = {name: _cost(of_dataset, name) for name in dict.fromkeys(row["peer"] for row in of_dataset)}
        for name, (seconds, targets) in cost.items():
            last = [row for row in of_dataset if row["peer"] == name][-1]
            cells = [dataset, f"{name} ({last['package']})", last["epoch"], f"{targets:,.0f}"]
            cells += [f"{seconds:,.1f}", f"{1e6 * seconds / targets:,.1f}"]
            for reference in (SAME_LOSS, DEFAULT):
                if reference in cost:
                    its_seconds, its_targets = cost[reference]
                    cells.append(f"{seconds / targets / (its_seconds / its_targets):.1f}")
                else:
                    cells.append("")
            cells += [f"{float(last[key]):.4f}" for key in ("ndcg@10", "recall@10")]
            cells.append(f"{float(last['peak_mib']):,.0f}")
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cost(rows: Sequence[Row], name: str) -> tuple[float, float]:
    """Return mean processor seconds and targets of an epoch of a peer."""
    own = [row for row in rows if row["peer"] == name]
    seconds = float(own[-1]["training_cpu_seconds"]) / int(own[-1]["epoch"])
    return seconds, sum(float(row["targets"]) for row in own) / len(own)


def picture(rows: Sequence[Row]) -> str:
    """Return quality against processor time of training as SVG, a panel a data set."""
    names = [peer.name for peer in PEERS]
    curves: dict[str, dict[str, list[list[tuple[float, float]]]]] = {}
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        own = [row for row in rows if row["dataset"] == dataset]
        curves[dataset] = {
            name: [points]
            for name in names
            if (
                points := [
                    (float(row["training_cpu_seconds"]), float(row["ndcg@10"]))
                    for row in own
                    if row["peer"] == name
                ]
            )
        }
    return svg(panels(curves, "processor time of training [s]", "test NDCG@10"))


def render(arguments: argparse.Namespace) -> None:
    """Write the table and the picture of the rows that are there."""
    rows = read_rows(arguments.csv)
    if not rows:
        raise PeerError(f"{arguments.csv} must have rows; make some with peers.py run")
    drawing = arguments.markdown.with_suffix(".svg")
    drawing.write_text(picture(rows), encoding="utf-8")
    text = "\n\n".join(
        [
            "```\npython benchmarks/peers.py run --work FOLDER\npython benchmarks/peers.py render\n```",
            common.machine("cpu", 1),
            table(rows),
            f"![NDCG@10 against processor time]({drawing.name})",
            "SASRec with two layers, two heads and d = 64 on the last 50 items, one thread, one seed. All "
            "else is what each package has as its default. The log, the split and the metric are the same "
            "for all: leave-one-out, all items ranked, those seen left out. With `recipe: plain` this "
            "package has the loss of the others: the next item alone is a target. An epoch is not the same "
            "work everywhere: RecTools and RePlay train the last 50 positions of a user, the others all. So "
            "the time of a target is compared. Peak: resident memory of the process up to the end of the "
            "first epoch. NDCG@10 and recall@10 are of the test items, after the last epoch that was "
            "trained; no peer has converged there.",
        ]
    )
    arguments.markdown.write_text(text + "\n", encoding="utf-8")
    print(table(rows))


def _parser() -> argparse.ArgumentParser:
    names = [peer.name for peer in PEERS]
    parser = argparse.ArgumentParser(
        prog="peers.py",
        description="Train SASRec of this package, of RecBole, RecTools and RePlay on the same data.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="train, and add a row for each epoch that is not there")
    running.add_argument("--datasets", nargs="+", default=["amazon-beauty", "ml-1m"], metavar="NAME")
    running.add_argument("--data-path", type=Path, default=Path("dataset"), help="where they are (dataset)")
    running.add_argument("--peers", nargs="+", choices=names, default=names, metavar="PEER", help=f"{names}")
    running.add_argument("--work", type=Path, required=True, help="folder of environments and runs")
    running.add_argument("--epochs", type=common.at_least(1), metavar="N", help="of each (default: by peer)")
    running.add_argument("--max-length", type=common.at_least(1), default=50, metavar="L", help="items (50)")
    running.add_argument("--seed", type=int, default=1)
    rendering = commands.add_parser("render", help="write table and picture of the rows")
    rendering.add_argument("--markdown", type=Path, default=RESULTS / "peers-cpu.md")
    for command in (running, rendering):
        command.add_argument("--csv", type=Path, default=RESULTS / "peers-cpu.csv")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark with command-line arguments; return the exit status."""
    parser = _parser()
    arguments = parser.parse_args(common.arguments_of(argv))
    try:
        if arguments.command == "run":
            run(arguments)
        else:
            render(arguments)
    except PeerError as error:
        parser.exit(1, f"{error}\n")
    return 0
