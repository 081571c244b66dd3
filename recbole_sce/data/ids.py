"""Ids of tokens travel with a checkpoint: a row of a table stays with the item that it was trained for.

RecBole numbers tokens as they first appear in the files, so that other lines, or the same in another order,
number them otherwise. A checkpoint holds its numbers (:class:`TokenIds`), and a data set that is made for it
takes them over (:func:`adopted`):

* An item that the checkpoint does not know has no vector. Its interactions are left out, so that it is in no
  history and never recommended.
* A user whom it does not know is served by his history, unless the model has embeddings of users; then his
  interactions are left out.
* A value of another field that it does not know counts as missing.

What is left out is named in a warning.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from recbole_sce.safe_io.checkpoints import CheckpointError, safe_load
from recbole_sce.utils.files import StrPath

_Tokens = npt.NDArray[np.str_]

#: The entry of a checkpoint.
KEY = "token_ids"
#: Most tokens that a message shows.
_SHOWN = 5


class TokenIds:
    """The tokens of all fields by their ids.

    Args:
        fields: for each field the tokens (n,), the padding token first.
    """

    def __init__(self, fields: Mapping[str, _Tokens]) -> None:
        self.fields = dict(fields)

    @classmethod
    def of(cls, dataset: Any) -> TokenIds:
        """Return those of a data set of RecBole."""
        return cls(dataset.field2id_token)

    @cached_property
    def packed(self) -> dict[str, Any]:
        """What a checkpoint holds: for each field the place of its tokens, which aliases share.

        Tokens are their bytes in UTF-8, all joined in one tensor (k,) uint8, and their lengths (n,) int32.
        """
        places: dict[int, int] = {}
        lists: list[dict[str, Tensor]] = []
        fields = {}
        for field, tokens in self.fields.items():
            if id(tokens) not in places:
                places[id(tokens)] = len(lists)
                lists.append(_packed(tokens))
            fields[field] = places[id(tokens)]
        return {"fields": fields, "lists": lists}

    @classmethod
    def unpacked(cls, packed: Any) -> TokenIds:
        """Return what was packed.

        Raises:
            ValueError: it has another form.
        """
        try:
            lists = [_unpacked(entry["bytes"], entry["lengths"]) for entry in packed["lists"]]
            return cls({str(field): lists[place] for field, place in packed["fields"].items()})
        except (TypeError, KeyError, IndexError, AttributeError, RuntimeError) as error:
            raise ValueError(f"it is not of the form that was written ({error})") from None

    def differing(self, other: TokenIds) -> list[str]:
        """Return the fields of both whose ids differ."""
        mine, theirs = self.packed, other.packed
        return [
            field
            for field in mine["fields"].keys() & theirs["fields"].keys()
            if not _equal(mine["lists"][mine["fields"][field]], theirs["lists"][theirs["fields"][field]])
        ]


def _packed(tokens: _Tokens) -> dict[str, Tensor]:
    encoded = [str(token).encode("utf-8", "surrogatepass") for token in tokens.tolist()]
    lengths = torch.tensor([len(token) for token in encoded], dtype=torch.int32)
    joined = np.frombuffer(bytearray(b"".join(encoded)), dtype=np.uint8)
    return {"bytes": torch.from_numpy(joined), "lengths": lengths}


def _unpacked(joined: Tensor, lengths: Tensor) -> _Tokens:
    ends = lengths.cpu().long().cumsum(0)
    if joined.dtype is not torch.uint8 or (lengths < 0).any() or int(ends[-1]) != len(joined):
        raise ValueError("lengths of tokens do not fit")
    content, stops = joined.cpu().numpy().tobytes(), ends.tolist()
    return np.array(
        [content[start:stop].decode("utf-8", "surrogatepass") for start, stop in zip([0, *stops], stops)]
    )


def _equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[part].cpu(), other[part].cpu()) for part in ("lengths", "bytes"))


# Of models and files

_of_models: WeakKeyDictionary[Any, TokenIds] = WeakKeyDictionary()


def note(model: Any, dataset: Any) -> None:
    """Remember the ids that ``model`` is made for."""
    if hasattr(dataset, "field2id_token"):  # not a stand-in of a test
        _of_models[model] = TokenIds.of(dataset)


def of_model(model: Any) -> TokenIds | None:
    """Return the ids that ``model`` was made for; None if that is not known."""
    return _of_models.get(model)


def in_checkpoint(checkpoint: Mapping[str, Any], path: StrPath) -> TokenIds | None:
    """Return the ids that a checkpoint holds; None if it was written without.

    Raises:
        CheckpointError: they are damaged.
    """
    if checkpoint.get(KEY) is None:
        return None
    try:
        return TokenIds.unpacked(checkpoint[KEY])
    except ValueError as error:
        raise CheckpointError(f"{os.fspath(path)} is damaged: of the ids of its tokens, {error}") from None


def check_same(path: StrPath, ids: TokenIds | None, key: str, remedy: str) -> None:
    """Check that a checkpoint at ``path`` is of the same ids, those of both that are known.

    Args:
        path: of the checkpoint.
        ids: those that are here.
        key: what named the file.
        remedy: what to do instead of restoring the files of the data set.

    Raises:
        CheckpointError: it is not.
    """
    stored = in_checkpoint(safe_load(path, "cpu", mmap=True), path)
    different = [] if stored is None or ids is None else stored.differing(ids)
    if different:
        raise CheckpointError(
            f"{key}: {os.fspath(path)} is of other training data: the files of the data set have changed "
            f"since, and the ids of {', '.join(sorted(different))} now belong to other tokens. Restore the "
            f"files, or {remedy}"
        )


# Of data sets


class _Adoption:
    """The ids that data sets are to take over, and what they had to leave out."""

    def __init__(self, stored: TokenIds, path: StrPath, keep_users: bool) -> None:
        self.stored, self.path, self.keep_users = stored, os.fspath(path), keep_users
        self.notes: list[str] = []


_adoption: ContextVar[_Adoption | None] = ContextVar("_adoption", default=None)


def wanted() -> TokenIds | None:
    """Return the ids that data sets take over at present."""
    current = _adoption.get()
    return None if current is None else current.stored


@contextmanager
def adopted(checkpoint: Mapping[str, Any], path: StrPath) -> Iterator[None]:
    """Let data sets that are made within take over the ids of a checkpoint, read from ``path``.

    Raises:
        CheckpointError: no item of the data is known to it, or the ids cannot be taken over.
    """
    stored = in_checkpoint(checkpoint, path)
    logger = logging.getLogger()
    if stored is None:
        logger.warning(
            f"{os.fspath(path)} was written without the ids of its items, so it cannot be checked that the "
            "data set has them in the same order: if its files have changed since training, items have the "
            "vectors of others. A checkpoint that is written now holds the ids"
        )
        yield
        return
    current = _Adoption(stored, path, keep_users=not _has_user_table(checkpoint, stored))
    token = _adoption.set(current)
    try:
        yield
    finally:
        _adoption.reset(token)
    for text in current.notes:
        logger.warning(text)


def _has_user_table(checkpoint: Mapping[str, Any], stored: TokenIds) -> bool:
    """Say whether a parameter may have a row for each user: in doubt it has."""
    config = checkpoint["config"]
    users, items = (len(stored.fields.get(config[key], ())) for key in ("USER_ID_FIELD", "ITEM_ID_FIELD"))
    return any(
        users in value.shape and ("user" in name or users not in (items, items + 1))
        for name, value in checkpoint["state_dict"].items()
        if isinstance(value, Tensor)
    )


def check_adopted(dataset: Any) -> None:
    """Check that a data set has the ids that it is to have.

    Raises:
        CheckpointError: it has others.
    """
    current = _adoption.get()
    if current is None:
        return
    ids = TokenIds.of(dataset)
    if current.keep_users:  # new ones may follow those that are known
        users = dataset.uid_field
        known = current.stored.fields.get(users, np.empty(0))
        ids.fields = {
            field: tokens[: len(known)] if field == users else tokens for field, tokens in ids.fields.items()
        }
    different = current.stored.differing(ids)
    if different:
        raise CheckpointError(
            f"{current.path} does not fit the data set at {dataset.dataset_path}, whose files have changed "
            f"since training: the ids of {', '.join(sorted(different))} are others, and cannot be taken over "
            f"with a {type(dataset).__name__}. Restore the files, or train anew"
        )


def adopt(dataset: Any) -> None:
    """Give the tokens of a data set, whose tables have just been numbered, the ids that are wanted, if any.

    Raises:
        CheckpointError: no interaction is left.
    """
    from recbole.data.dataset import KnowledgeBasedDataset

    current = _adoption.get()
    # A knowledge graph links ids of items to those of entities: check_adopted refuses it if they differ.
    if current is None or isinstance(dataset, KnowledgeBasedDataset):
        return
    if not current.stored.differing(TokenIds.of(dataset)):
        return
    new_ids = _take_over(dataset, current)
    drops = {*dataset.alias["item_id"], *dataset.alias["user_id"]}
    for name in dataset.feat_name_list:
        table = getattr(dataset, name)
        keep = np.ones(len(table), dtype=bool)
        for field in [field for field in table if field in new_ids]:
            if _is_sequence(dataset, field):
                keep &= _renumber_sequences(table, field, new_ids[field])
            else:
                ids = new_ids[field][table[field].to_numpy()]
                if field in drops:
                    keep &= ids >= 0
                table[field] = np.maximum(ids, 0)
        if not keep.all():
            setattr(dataset, name, table[keep].reset_index(drop=True))
            if name == "inter_feat":
                _count_left(dataset, keep, current)
    held_out = vars(dataset).get("held_out_users")
    if held_out is not None:
        known = dataset.field2token_id[dataset.uid_field]
        dataset.held_out_users = np.array([user for user in held_out if user in known])


def _take_over(dataset: Any, current: _Adoption) -> dict[str, npt.NDArray[np.int64]]:
    """Set the ids of all fields; return, for each that changes, the new id of each old one, -1 if unknown."""
    new_ids: dict[str, npt.NDArray[np.int64]] = {}
    done: dict[int, tuple[Any, ...]] = {}
    fields = [field for field in dataset.field2id_token if field in current.stored.fields]
    for field in fields:
        present, stored = dataset.field2id_token[field], current.stored.fields[field]
        if id(present) not in done:
            # Without the padding token, whose name a token of the data may have.
            ids = np.append(0, pd.Index(stored[1:]).get_indexer(pd.Index(present[1:])) + 1)
            unknown = np.flatnonzero(ids == 0)[1:]
            ids[unknown] = -1
            if field in dataset.alias["user_id"] and current.keep_users:
                ids[unknown] = np.arange(len(stored), len(stored) + len(unknown))
                stored = np.concatenate([stored, present[unknown]])
            elif len(unknown):
                current.notes.append(_note(dataset, field, present[unknown], current))
            done[id(present)] = ids, stored, {token: number for number, token in enumerate(stored.tolist())}
        new_ids[field], dataset.field2id_token[field], dataset.field2token_id[field] = done[id(present)]
    return new_ids


def _note(dataset: Any, field: str, tokens: _Tokens, current: _Adoption) -> str:
    if field in dataset.alias["item_id"]:
        effect = "have no vector, so they are left out of histories and never recommended"
    elif field in dataset.alias["user_id"]:
        effect = "have no embedding, so their interactions are left out"
    else:
        effect = "count as missing"
    shown = ", ".join(tokens[:_SHOWN].tolist()) + (", ..." if len(tokens) > _SHOWN else "")
    return (
        f"{current.path}: {len(tokens):,} values of {field} in the data set {dataset.dataset_name} are "
        f"unknown to the model, which was trained without them; they {effect}: {shown}"
    )


def _is_sequence(dataset: Any, field: str) -> bool:
    return str(dataset.field2type[field].value).endswith("seq")


def _renumber_sequences(table: Any, field: str, new_ids: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Renumber sequences without unknown values; return (n,) False where nothing is left of some."""
    sequences = [new_ids[np.asarray(ids, dtype=np.int64)] for ids in table[field]]
    known = [ids[ids >= 0] for ids in sequences]
    table[field] = pd.Series(known, index=table.index)
    return np.array([len(left) > 0 or len(ids) == 0 for left, ids in zip(known, sequences)], dtype=bool)


def _count_left(dataset: Any, keep: npt.NDArray[np.bool_], current: _Adoption) -> None:
    if not keep.any():
        raise CheckpointError(
            f"{current.path} does not fit the data set at {dataset.dataset_path}: the model knows none of "
            "its items, or none of its users. Is it another data set of that name?"
        )
    if dataset.benchmark_filename_list is not None:
        parts = np.split(keep, np.cumsum(dataset.file_size_list)[:-1])
        dataset.file_size_list = [int(part.sum()) for part in parts]
