"""Recommendations from a checkpoint: the best next items of users or of histories, batch by batch.

Memory holds the data set, the model, and one batch: neither the number of users asked for nor the size of the
catalogue makes a difference to it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from recbole.data.interaction import Interaction
from recbole.data.transform import construct_transform
from torch import Tensor

from recbole_sce.compat import CheckpointError, safe_load
from recbole_sce.data.ids import adopted
from recbole_sce.data.rows import POSITION, MissingFieldError, Rows
from recbole_sce.data.sequences import starts_of_runs
from recbole_sce.data.transfer import move
from recbole_sce.data.windows import continues_history
from recbole_sce.errors import RecboleSCEError
from recbole_sce.evaluator.encoding import encode_rows, streams
from recbole_sce.evaluator.pairs import Pairs
from recbole_sce.evaluator.topk import stream_topk
from recbole_sce.model.mixin import SCEMixin
from recbole_sce.utils.devices import to_device

#: Users or histories worked on at a time.
BATCH = 1024
#: Of a model that scores all items at once (no plugin model does): bytes of scores at a time.
_DENSE_BYTES = 256 * 2**20
#: Most ids that an error shows.
_SHOWN = 5

HISTORIES = ("full", "test")

#: Internal ids, of items or of users.
_Ids = npt.NDArray[np.int64]


class RecommendationError(RecboleSCEError, ValueError):
    """What was asked for cannot be recommended; the message says why."""


@dataclass(frozen=True)
class TopItems:
    """The best items of some users or histories.

    Attributes:
        ids: (B,) what the user or history is called.
        items: (B, k) original ids, best first; ``[PAD]`` where a row has fewer than k candidates.
        scores: (B, k) float32; -inf there.
    """

    ids: list[str]
    items: npt.NDArray[np.str_]
    scores: npt.NDArray[np.float32]

    def rows(self) -> Iterator[tuple[str, list[str], list[float]]]:
        """Yield the id, the items and the scores of each row, candidates only."""
        counts = (self.scores > -np.inf).sum(1)
        for name, items, scores, count in zip(self.ids, self.items, self.scores, counts):
            yield name, items[:count].tolist(), scores[:count].tolist()


@dataclass
class Skipped:
    """What of the given histories could not be used.

    Attributes:
        items: how many items (counted each time) the model does not know.
        item_examples: some of them.
        histories: how many histories were left out, since the model knows none of their items.
        history_examples: some of them.
    """

    items: int = 0
    item_examples: list[str] = field(default_factory=list)
    histories: int = 0
    history_examples: list[str] = field(default_factory=list)

    def add_item(self, item: str) -> None:
        """Count an unknown item."""
        self.items += 1
        if len(self.item_examples) < _SHOWN and item not in self.item_examples:
            self.item_examples.append(item)

    def add_history(self, name: str) -> None:
        """Count a history without a known item."""
        self.histories += 1
        if len(self.history_examples) < _SHOWN:
            self.history_examples.append(name)


class Recommender:
    """A trained sequential model with its data set, ready to recommend.

    :meth:`load` makes one from a checkpoint.

    Args:
        model: a sequential recommender of RecBole or of recbole_sce, on ``device``.
        dataset: the data set that it was trained on, which knows the original ids.
        log: the histories of its users.
        device: where the model is.
    """

    def __init__(self, model: Any, dataset: Any, log: UserLog, device: torch.device) -> None:
        self.model = model.eval()
        self.device = device
        self._log = log
        self._dataset = dataset
        self._item_ids = np.asarray(dataset.field2id_token[dataset.iid_field]).astype(str)  # (C,)
        self._item_codes: dict[str, int] = dataset.field2token_id[dataset.iid_field]
        self._user_codes: dict[str, int] = dataset.field2token_id[dataset.uid_field]
        self._streams = isinstance(model, SCEMixin) and streams(model)
        # Masks are for training: models that mask put their own behind a history.
        masks = dataset.config["transform"] == "mask_itemseq"
        self._transform = None if masks else construct_transform(dataset.config)

    @classmethod
    def load(
        cls,
        checkpoint: str | os.PathLike[str],
        data_path: str | os.PathLike[str] | None = None,
        device: str | None = None,
    ) -> Recommender:
        """Load a checkpoint that a RecBole trainer wrote, and the data set that it was trained on.

        Args:
            checkpoint: the file.
            data_path: folder that holds the data set's folder; None: where it was in training.
            device: ``cpu``, ``cuda``, ...; None: that of training, or the CPU where there is no such device.

        The files may have changed since: each item has its own vector, and what the model does not know is
        named in a warning (:mod:`recbole_sce.data.ids`).

        Raises:
            FileNotFoundError: the checkpoint or the data set does not exist.
            CheckpointError: the file is no checkpoint, is damaged or not safe to read.
            RecommendationError: the model is not sequential, or the data set is another one.
        """
        from recbole.data import create_dataset, data_preparation
        from recbole.utils import ModelType, get_model, init_seed

        name = os.fspath(checkpoint)
        if not os.path.isfile(name):
            raise FileNotFoundError(f"checkpoint {name} does not exist")
        content = safe_load(name, map_location=device)
        if not isinstance(content, dict) or not {"config", "state_dict"} <= set(content):
            raise CheckpointError(f"{name} is no checkpoint of a RecBole trainer: it has no configuration")
        config = content["config"]
        if config["MODEL_TYPE"] is not ModelType.SEQUENTIAL:
            raise RecommendationError(
                f"{name} holds {config['model']}, which is not sequential: no history tells it what to "
                "recommend. recbole.utils.case_study.full_sort_topk serves its known users"
            )
        if data_path is not None:
            config["data_path"] = os.path.join(os.fspath(data_path), config["dataset"])
        if device is not None:
            config["device"] = torch.device(device)
        if not os.path.isdir(config["data_path"]):
            raise FileNotFoundError(
                f"data set {config['dataset']!r}: its folder {config['data_path']} does not exist; set "
                "data_path to the folder that holds it now"
            )
        init_seed(config["seed"], config["reproducibility"])
        with adopted(content, name):
            dataset = create_dataset(config)
            train, _, test = data_preparation(config, dataset)
        if not isinstance(dataset.inter_feat, Interaction):
            dataset.build()  # data_preparation has not, where it found saved data loaders
        if dataset.benchmark_filename_list is None:
            log = UserLog.of(dataset)
            log.hold_out(test._dataset.inter_feat[dataset.uid_field].numpy())
        else:
            log = UserLog.of_files(dataset)
        model = get_model(config["model"])(config, train._dataset).to(config["device"])
        try:
            model.load_state_dict(content["state_dict"])
        except RuntimeError as error:
            raise RecommendationError(
                f"{name} does not fit the data set at {config['data_path']}, which is another one than it "
                f"was trained on, or has changed ({' '.join(str(error).split())})"
            ) from None
        model.load_other_parameter(content.get("other_parameter"))
        return cls(model, dataset, log, config["device"])

    @property
    def n_items(self) -> int:
        """Number of items that can be recommended."""
        return len(self._item_ids) - 1

    @property
    def users(self) -> list[str]:
        """Original ids of the users who have a history in the data set."""
        ids = self._dataset.field2id_token[self._dataset.uid_field]
        return [str(ids[user]) for user in np.flatnonzero(self._log.lengths("full"))]

    def for_users(
        self, users: Sequence[Any], k: int, exclude_seen: bool = False, history: str = "full"
    ) -> Iterator[TopItems]:
        """Yield the best items of users, a batch at a time, in the order of ``users``.

        Args:
            users: original ids, as text or as whole numbers.
            k: how many items; 1 to :attr:`n_items`.
            exclude_seen: whether items of the history, however long ago, are no candidates.
            history: ``full``: all that the data set has of the user. ``test``: without the items held out
                for testing; this is what ``recbole.utils.case_study.full_sort_topk`` ranks by.

        Raises:
            RecommendationError: ``k`` or ``history`` is not possible, or a user is unknown or has no
                history. Raised before any ranking.
        """
        self._check_k(k)
        names, codes = self._known_users(users, history)

        def batches() -> Iterator[TopItems]:
            for start in range(0, len(codes), BATCH):
                some = codes[start : start + BATCH]
                histories = [self._log.history(user, history) for user in some]
                yield self._top(names[start : start + BATCH], histories, k, exclude_seen, some)

        return batches()

    def for_histories(
        self,
        histories: Iterable[tuple[Any, Sequence[Any]]],
        k: int,
        exclude_seen: bool = False,
        skipped: Skipped | None = None,
    ) -> Iterator[TopItems]:
        """Yield the best items that follow given histories, a batch at a time, in their order.

        Args:
            histories: pairs of a name and the original ids of items, as text or as whole numbers, oldest
                first; read as needed.
            k: how many items; 1 to :attr:`n_items`.
            exclude_seen: whether the items of the history are no candidates.
            skipped: told of unknown items, which are left out, and of histories without a known one, which
                get no recommendation.

        Raises:
            RecommendationError: ``k`` is not possible, or the model scores by an embedding of the user, so
                that it serves nobody but the users of its training.
        """
        self._check_k(k)
        skipped = Skipped() if skipped is None else skipped

        def batches() -> Iterator[TopItems]:
            known = self._known(histories, skipped)
            while batch := list(islice(known, BATCH)):
                yield self._top([name for name, _ in batch], [items for _, items in batch], k, exclude_seen)

        return batches()

    def item_vectors(self) -> tuple[npt.NDArray[np.str_], npt.NDArray[np.float32]]:
        """Return the original ids (C,) of all items and their vectors (C, d).

        The score of an item is the inner product of its vector with :meth:`hidden_states`.

        Raises:
            RecommendationError: the model's scores are no such products.
        """
        self._check_streams()
        return self._item_ids[1:], self._table[1:].float().cpu().numpy()

    def hidden_states(self, users: Sequence[Any], history: str = "full") -> npt.NDArray[np.float32]:
        """Return the hidden states (B, d) of known users: the queries to :meth:`item_vectors`.

        Raises:
            RecommendationError: as :meth:`for_users` does, or the model has no such states.
        """
        self._check_streams()
        _, codes = self._known_users(users, history)
        batch = self._batch([self._log.history(user, history) for user in codes], codes)
        return encode_rows(self.model, batch, self.device).float().cpu().numpy()

    def _known_users(self, users: Sequence[Any], history: str) -> tuple[list[str], _Ids]:
        """Return the users' ids and numbers.

        Raises:
            RecommendationError: ``history`` is not possible, or a user is unknown or has no history.
        """
        if history not in HISTORIES:
            raise RecommendationError(f"history must be one of {', '.join(HISTORIES)}, got {history!r}")
        names = _tokens(users, "users")
        unknown = [user for user in names if user not in self._user_codes or user == "[PAD]"]
        if unknown:
            raise RecommendationError(
                f"{len(unknown):,} of {len(names):,} users are unknown to the model: {_some(unknown)}. "
                "Users whom it has not seen in training are served by their histories"
            )
        codes = np.array([self._user_codes[user] for user in names], dtype=np.int64)
        silent = [names[place] for place in np.flatnonzero(self._log.lengths(history)[codes] == 0)]
        if silent:
            raise RecommendationError(
                f"{len(silent):,} of {len(names):,} users have no history in the data set (two interactions "
                f"are the least): {_some(silent)}"
            )
        return names, codes

    def _check_k(self, k: int) -> None:
        if not 1 <= k <= self.n_items:
            raise RecommendationError(f"k must be 1 to {self.n_items}, the number of items, got {k}")

    def _check_streams(self) -> None:
        if not self._streams:
            raise RecommendationError(
                f"{type(self.model).__name__} has no item vectors to export: only models of recbole_sce "
                "score by a product with one table"
            )

    def _known(
        self, histories: Iterable[tuple[Any, Sequence[Any]]], skipped: Skipped
    ) -> Iterator[tuple[str, _Ids]]:
        for given_name, items in histories:
            name, codes = _token(given_name), []
            for item in _tokens(items, f"the items of history {name!r}"):
                code = self._item_codes.get(item, 0)
                if code == 0:  # unknown, or literally "[PAD]"
                    skipped.add_item(item)
                else:
                    codes.append(code)
            if codes:
                yield name, np.array(codes, dtype=np.int64)
            else:
                skipped.add_history(name)

    @torch.no_grad()
    def _top(
        self, ids: list[str], histories: list[_Ids], k: int, exclude_seen: bool, users: _Ids | None = None
    ) -> TopItems:
        seen = None
        if exclude_seen:
            rows = np.repeat(np.arange(len(histories)), [len(items) for items in histories])
            seen = Pairs(torch.from_numpy(rows), torch.from_numpy(np.concatenate(histories)))
        try:
            scores, items = self._rank(self._batch(histories, users), seen, k)
        except KeyError as error:
            missing = error.field if isinstance(error, MissingFieldError) else next(iter(error.args), error)
            if users is None and missing == self._dataset.uid_field:
                raise RecommendationError(
                    f"{type(self.model).__name__} scores by an embedding of the user, so it serves no "
                    "histories but those of the users that it was trained with: ask for users"
                ) from None
            raise RecommendationError(
                f"{type(self.model).__name__} reads more of a history than its items, which alone are known "
                f"here: {missing}"
            ) from error
        if scores.isnan().any():
            raise RecommendationError(
                f"{type(self.model).__name__} gives scores that are no numbers: its training has diverged"
            )
        items = items.where(scores > -torch.inf, 0)
        return TopItems(ids, self._item_ids[items.cpu().numpy()], scores.float().cpu().numpy())

    def _batch(self, histories: list[_Ids], users: _Ids | None) -> Interaction:
        """Return what a model takes of the latest items of ``histories``; users only where they are known."""
        width = self._dataset.max_item_list_len
        table = np.zeros((len(histories), width), dtype=np.int64)  # (B, L)
        lengths = np.zeros(len(histories), dtype=np.int64)  # (B,)
        for row, items in enumerate(histories):
            latest = items[-width:]
            lengths[row] = len(latest)
            table[row, : len(latest)] = latest
        fields = {self.model.ITEM_SEQ: table, self.model.ITEM_SEQ_LEN: lengths}
        if users is not None:
            fields[self._dataset.uid_field] = users
        batch = Interaction({name: torch.from_numpy(column) for name, column in fields.items()})
        return batch if self._transform is None else self._transform(self._dataset, batch)

    @cached_property
    def _table(self) -> Tensor:
        with torch.no_grad():
            table: Tensor = self.model.item_table().detach()
        return table

    def _rank(self, batch: Interaction, seen: Pairs | None, k: int) -> tuple[Tensor, Tensor]:
        """Return the largest scores (B, k) and their items (B, k)."""
        if self._streams:
            hidden = encode_rows(self.model, batch, self.device)  # (B, d)
            return stream_topk(hidden, self._table, k, exclude=seen)
        parts = []
        step = max(1, _DENSE_BYTES // (4 * len(self._item_ids)))
        for start in range(0, len(batch), step):
            part = move(batch[start : start + step], self.device)
            try:
                scores = self.model.full_sort_predict(part).view(len(part), -1)  # (b, C)
            except NotImplementedError:
                raise RecommendationError(
                    f"{type(self.model).__name__} scores one item at a time, which is not served here"
                ) from None
            scores = scores[:, : len(self._item_ids)]
            scores[:, 0] = -torch.inf
            if seen is not None:
                here = (seen.rows >= start) & (seen.rows < start + len(part))
                rows, items = seen.rows[here] - start, seen.items[here]
                scores[to_device(rows, self.device), to_device(items, self.device)] = -torch.inf
            parts.append(scores.topk(k))
        return torch.cat([part.values for part in parts]), torch.cat([part.indices for part in parts])


class UserLog:
    """The items of each user, oldest first, as one flat column.

    Attributes:
        items: (n,) items, a user's together.
        starts: (users + 1,) where each user's items begin in ``items``.
        held_out: (users,) how many of a user's last items are held out for testing.
    """

    def __init__(self, items: _Ids, counts: _Ids) -> None:
        self.items = items
        self.starts = np.concatenate([[0], np.cumsum(counts)])
        self.held_out = np.zeros_like(counts)

    @classmethod
    def of(cls, dataset: Any) -> UserLog:
        """Read the log back from the rows of a sequential data set, RecBole's or the plugin's, that is built.

        A row predicts an interaction of a user from those before it, and a user's rows are by time: the
        history of the first one is the user's first item, and all other items are targets.
        """
        users = dataset.inter_feat[dataset.uid_field].numpy()  # (m,)
        order = np.argsort(users, kind="stable")
        users, targets = users[order], dataset.inter_feat[dataset.iid_field].numpy()[order]
        first = np.flatnonzero(starts_of_runs(users))  # (users with rows,)
        history = f"{dataset.iid_field}{dataset.config['LIST_SUFFIX']}"
        first_items = [
            dataset.__getitem__(torch.from_numpy(part), join=False)[history][:, 0].numpy()
            for part in np.array_split(order[first], len(first) // 2**16 + 1)
        ]
        items = np.insert(targets.astype(np.int64), first, np.concatenate(first_items))
        counts = np.bincount(users, minlength=dataset.user_num)
        counts[users[first]] += 1
        return cls(items, counts)

    @classmethod
    def of_files(cls, dataset: Any) -> UserLog:
        """Take the log from prepared histories (``benchmark_filename``): training, validation, test.

        A user's last row is that with the longest history in the last file that has the user. Where its
        history is that of the row before and that row's target, and so on, the targets of all these are the
        user's items, behind the first one's history; else only the last row counts. Those in the last file
        are held out for testing.
        """
        items, targets, lengths = _flat_histories(dataset)
        users = dataset.inter_feat[dataset.uid_field].numpy()  # (n,)
        file = np.repeat(np.arange(len(dataset.file_size_list)), dataset.file_size_list)  # (n,)
        order = np.lexsort((lengths, file, users))
        users, file, targets, lengths = users[order], file[order], targets[order], lengths[order]
        firsts = np.flatnonzero(~continues_history(items, targets, lengths, users))
        last = np.append(np.flatnonzero(starts_of_runs(users))[1:], len(users)) - 1  # (users with rows,)
        first = firsts[np.searchsorted(firsts, last, side="right") - 1]
        parts = [
            np.concatenate([items[targets[a] - lengths[a] : targets[a]], items[targets[a : b + 1]]])
            for a, b in zip(first, last)
        ]
        counts = np.zeros(dataset.user_num, dtype=np.int64)
        counts[users[last]] = [len(part) for part in parts]
        log = cls(np.concatenate(parts).astype(np.int64), counts)
        tested = np.concatenate([[0], np.cumsum(file == len(dataset.file_size_list) - 1)])
        log.held_out[users[last]] = tested[last + 1] - tested[first]
        return log

    def hold_out(self, users: npt.NDArray[Any]) -> None:
        """Note the users (m,) of the rows held out for testing, their last ones."""
        if len(self.items):
            self.held_out = np.bincount(users, minlength=len(self.held_out))

    def lengths(self, which: str) -> _Ids:
        """Return the length (users,) of each user's history, ``full`` or ``test``."""
        lengths: _Ids = np.diff(self.starts)
        return lengths - self.held_out if which == "test" else lengths

    def history(self, user: int, which: str) -> _Ids:
        """Return the items of ``user``, oldest first; with ``test``, without those held out."""
        stop = self.starts[user + 1] - (self.held_out[user] if which == "test" else 0)
        return self.items[self.starts[user] : stop]


def _flat_histories(dataset: Any) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Return prepared histories, each with its target behind it, where targets are (n,), and lengths (n,)."""
    rows = dataset.inter_feat
    lengths = rows[dataset.item_list_length_field].numpy().astype(np.int64)
    if isinstance(rows, Rows):
        return rows.log[dataset.iid_field].numpy(), rows[POSITION].numpy(), lengths
    history = rows[f"{dataset.iid_field}{dataset.config['LIST_SUFFIX']}"]  # (n, L)
    lengths = np.minimum(lengths, history.shape[1])
    table = np.concatenate([history.numpy(), np.zeros((len(history), 1), dtype=np.int64)], 1)
    table[np.arange(len(table)), lengths] = rows[dataset.iid_field].numpy()
    items = table[np.arange(table.shape[1]) <= lengths[:, None]]
    return items, np.cumsum(lengths + 1) - 1, lengths


def _token(value: Any) -> str:
    """Return how files of data spell an id."""
    return str(value.item() if isinstance(value, Tensor) else value)


def _tokens(values: Any, what: str) -> list[str]:
    """Return the tokens of ids.

    Raises:
        RecommendationError: they are one text, whose letters would be taken for ids.
    """
    if isinstance(values, (str, bytes)):
        raise RecommendationError(f"{what} must be a list of ids, got {values!r}")
    return [_token(value) for value in values]


def _some(ids: Sequence[str]) -> str:
    return ", ".join(map(repr, ids[:_SHOWN])) + (", ..." if len(ids) > _SHOWN else "")
