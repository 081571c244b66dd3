"""``recbole-sce recommend``: the best next items of users or histories, from a checkpoint."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from recbole_sce.cli.errors import InputError, warn
from recbole_sce.cli.loading import load_plugin

if TYPE_CHECKING:
    from recbole_sce.inference.recommender import Recommender, Skipped

#: Users whose hidden states a FAISS index is measured by.
_QUERIES = 1000


def recommend(
    checkpoint: Annotated[Path, Argument(help="Checkpoint, a .pth file that training has saved.")],
    user: Annotated[list[str] | None, Option("--user", "-u", help="Id of a user; may be repeated.")] = None,
    users: Annotated[Path | None, Option(help="File of users, one id a line.", metavar="FILE")] = None,
    histories: Annotated[
        Path | None,
        Option(
            help="File of histories, of users unknown to the model too: JSON lines "
            '{"id": "ann", "items": ["12", "7"]}, or .csv with columns id, items (separated by spaces).',
            metavar="FILE",
        ),
    ] = None,
    k: Annotated[int, Option("--k", "-k", min=1, help="Items for each.")] = 10,
    exclude_seen: Annotated[bool, Option(help="Leave out the items of the history.")] = False,
    history: Annotated[
        str,
        Option(
            help="Of a user: full, all that the data set has; test, without the items held out for testing, "
            "as in evaluation."
        ),
    ] = "full",
    out: Annotated[
        Path | None,
        Option(help=".csv, .parquet or .jsonl; JSON lines on the screen if not given.", metavar="FILE"),
    ] = None,
    item_vectors: Annotated[
        Path | None,
        Option(help="Write the vectors of all items here, .npy, and their ids beside it.", metavar="FILE"),
    ] = None,
    faiss: Annotated[
        Path | None,
        Option(help="Write a FAISS index of these vectors here, and measure its recall.", metavar="FILE"),
    ] = None,
    data_path: Annotated[
        Path | None,
        Option("--data_path", help="Folder of data sets, if not where it was in training.", metavar="DIR"),
    ] = None,
    device: Annotated[str | None, Option(help="cpu, cuda, ...")] = None,
) -> None:
    """Recommend the best next items from a checkpoint.

    For users of the data set (all of them if none is named), or for histories of anybody. Ids are those of
    the data set's files. The catalogue is searched in chunks and the output is written batch by batch, so
    that neither the number of users nor the size of the catalogue is bounded by memory.

    Examples:
    - recbole-sce recommend saved/SASRecSCE-Jan-01-2025_00-00-00.pth -u 196 -u 186

    - recbole-sce recommend model.pth --users users.txt --k 20 --exclude-seen --out top.parquet

    - recbole-sce recommend model.pth --histories visitors.jsonl --out top.csv

    - recbole-sce recommend model.pth --item-vectors items.npy --faiss items.faiss --out top.csv
    """
    _check_usage(user, users, histories, history)

    load_plugin()
    from recbole_sce.cli.lists import RecommendationWriter, read_histories, read_users
    from recbole_sce.inference.recommender import Recommender, Skipped

    writer = RecommendationWriter(out)
    named = [*(user or []), *(read_users(users) if users is not None else [])]
    skipped = Skipped()
    recommender = Recommender.load(checkpoint, data_path, device)
    if histories is not None:
        tops = recommender.for_histories(read_histories(histories), k, exclude_seen, skipped)
    else:
        tops = recommender.for_users(named or recommender.users, k, exclude_seen, history)
    if item_vectors is not None or faiss is not None:
        _export(recommender, item_vectors, faiss, k, history)
    started = time.perf_counter()
    n_served, n_short, n_items = 0, 0, 0
    with writer:
        for top in tops:
            writer.write(top)
            counts = (top.scores > -float("inf")).sum(1)
            n_served, n_items = n_served + len(top.ids), n_items + int(counts.sum())
            n_short += int((counts < k).sum())
        _warn_of(skipped)
        if n_items == 0:
            raise InputError(_nothing(n_served, histories))
    if n_short:
        warn(f"{n_short:,} of {n_served:,} lists are shorter than --k {k}: fewer items are left for them")
    seconds = time.perf_counter() - started
    typer.echo(f"{n_served:,} served in {seconds:.1f} s" + (f": {out}" if out else ""), err=True)


def _nothing(n_served: int, histories: Path | None) -> str:
    """Say why there is no recommendation at all."""
    if n_served:
        return "nothing was recommended: --exclude-seen leaves no item to anybody"
    if histories is not None:
        return f"nothing was recommended: {histories} has no history with an item that the model knows"
    return "nothing was recommended: no user of the data set has a history"


def _check_usage(user: list[str] | None, users: Path | None, histories: Path | None, history: str) -> None:
    if histories is not None and (user or users is not None):
        raise InputError("--histories cannot go with --user or --users: run the command once for each")
    if histories is not None and history != "full":
        raise InputError("--history is about users of the data set; --histories are taken as they are")
    for path in (users, histories):
        if path is not None and not path.is_file():
            raise InputError(f"{path} does not exist")


def _export(
    recommender: Recommender, item_vectors: Path | None, faiss: Path | None, k: int, history: str
) -> None:
    """Write item vectors and their index, and say what the index misses."""
    from recbole_sce.inference.vectors import build_index, recall, save_item_vectors, write_index

    ids, vectors = recommender.item_vectors()
    if item_vectors is not None:
        ids_path = save_item_vectors(item_vectors, ids, vectors)
        typer.echo(
            f"{len(ids):,} item vectors of {vectors.shape[1]} numbers: {item_vectors}, {ids_path}", err=True
        )
    if faiss is not None:
        index = build_index(vectors)
        write_index(index, faiss)
        text = f"FAISS index ({type(index).__name__}) of {len(ids):,} items: {faiss}"
        known = recommender.users
        queries = known[:: max(1, len(known) // _QUERIES)][:_QUERIES]
        if queries:
            share = recall(index, vectors, recommender.hidden_states(queries, history), k)
            text += f"; recall@{k} against exact search {share:.4f} ({len(queries):,} users)"
        typer.echo(text, err=True)


def _warn_of(skipped: Skipped) -> None:
    if skipped.items:
        warn(
            f"{skipped.items:,} items of the histories are unknown and were skipped: "
            f"{', '.join(skipped.item_examples)}"
        )
    if skipped.histories:
        warn(
            f"{skipped.histories:,} histories have no known item and got no recommendation: "
            f"{', '.join(skipped.history_examples)}"
        )
