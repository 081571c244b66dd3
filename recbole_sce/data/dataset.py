"""The data set of plugin models: one flat log, rows that are pairs of indices, sequences made per batch."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from recbole.data.dataset import SequentialDataset
from recbole.data.interaction import Interaction
from recbole.utils import FeatureSource, FeatureType
from torch import Tensor

from recbole_sce.data import temporal, times
from recbole_sce.data.fields import target_list_field
from recbole_sce.data.filtering import CountRule, filter_by_counts
from recbole_sce.data.reading import read_columns, read_header
from recbole_sce.data.rows import POSITION, Batch, Index, Rows, compact, select, widen
from recbole_sce.data.sequences import gather_padded, next_item_rows, starts_of_runs, values_of_slices
from recbole_sce.data.splits import leave_one_out_rows, ratio_rows
from recbole_sce.data.windows import continues_history, continues_position, cut_windows
from recbole_sce.settings import settings_of
from recbole_sce.settings.recipes import choose_recipe

if TYPE_CHECKING:
    from recbole.config import Config

#: Private column of windows: how many targets each trains.
N_TARGETS = "__n_targets__"


class IndexedSequenceDataset(SequentialDataset):  # type: ignore[misc]
    """A ``SequentialDataset`` that stores each interaction once, whatever ``MAX_ITEM_LIST_LENGTH`` says.

    * :attr:`log` holds the interactions, sorted by user and time (timestamps compared as float64, ties in
      the order of the file); train, validation and test data share it.
    * ``inter_feat`` holds one light row for each row of RecBole's augmentation: user, target columns,
      history length, and the target's position in the log. Ids, rows, their order and splits are RecBole's.
    * ``dataset[index]`` makes the padded sequences of these rows, and joins user and item features.
      ``inter_feat["X_list"]``, the histories of any column X, is made when it is read.

    The item history (``item_id_list``) is always made. Histories of other ``.inter`` columns are made if the
    model names these columns in its class attribute ``sequence_fields``, a tuple; of RecBole's sequential
    recommenders none reads any. Feature models take item features by the ids of the item history.

    With ``train_positions: all`` the training data has :attr:`windows` beside its rows: a window has the
    history of its last row and all targets of the rows that it stands for, in the field
    :func:`recbole_sce.data.fields.target_list_field` (B, L) int64, 0 where there is none. Each training row
    is in exactly one window. :meth:`training_batch` gives them, to the training loader
    (:class:`recbole_sce.data.loader.SequenceDataLoader`); lengths, row numbers and statistics are of rows.
    """

    #: A table until the data set is built, then rows.
    inter_feat: Any
    user_feat: Any
    item_feat: Any
    max_item_list_len: int
    #: Flat columns of all interactions, users aside; from the time that the data set is built.
    log: Interaction
    #: (n_users,) where in the log each user's interactions begin; None where histories come from files.
    user_starts: Tensor | None = None
    #: What training batches are made of instead of rows, with ``train_positions: all``.
    windows: Rows | None = None
    #: Mean number of interactions of a user before any split; with ``temporal_holdout`` of a training user.
    #: Files of histories, which may be cut, tell of a user the rows, a target each, or the longest history,
    #: if that is more; and one interaction besides.
    interactions_per_user: float
    #: With ``temporal_holdout``: the users who are tested and never trained.
    held_out_users: npt.NDArray[Any]

    def _data_processing(self) -> None:
        """Filter and number (RecBole: same name), then let the recipe be chosen by what is left."""
        super()._data_processing()
        self.interactions_per_user = self._count_per_user()
        self.take_settings(self.config)

    def take_settings(self, config: Config) -> None:
        """Choose the recipe of ``config`` if that is still to be done, and take what rows are made by."""
        choose_recipe(config, self)
        self.train_positions = settings_of(config).train_positions
        self.max_item_list_len = config["MAX_ITEM_LIST_LENGTH"]

    def _count_per_user(self) -> float:
        users = self.inter_feat[self.uid_field].to_numpy()
        if self.benchmark_filename_list is not None:
            lengths = self.inter_feat[self._item_list_field].map(len)
            rows = lengths.groupby(self.inter_feat[self.uid_field])
            return float(rows.agg(["max", "size"]).max(axis=1).mean()) + 1
        if self.config[temporal.KEY] is not None:
            users = users[~np.isin(users, self.token2id(self.uid_field, self.held_out_users))]
        return len(users) / int(np.count_nonzero(np.bincount(users)))

    # Reading

    def _load_inter_feat(self, token: str, dataset_path: str) -> None:
        """Load the interactions and check that what a sequential model needs is there.

        Raises:
            ValueError: a needed column, a time, or every interaction, is missing.
        """
        super()._load_inter_feat(token, dataset_path)
        needed = {"USER_ID_FIELD": self.uid_field, "ITEM_ID_FIELD": self.iid_field}
        if self.benchmark_filename_list is None:
            where = os.path.join(dataset_path, f"{token}.inter")
            needed["TIME_FIELD"] = self.time_field
        else:
            where = ", ".join(
                os.path.join(dataset_path, f"{token}.{name}.inter") for name in self.benchmark_filename_list
            )
            needed["ITEM_ID_FIELD and LIST_SUFFIX, with benchmark_filename"] = self._item_list_field
        for key, field in needed.items():
            if field is None:
                raise ValueError(f"{key} is not set; it must name a column of {where}")
            if self.inter_feat is None or field not in self.inter_feat:
                loaded = ", ".join(() if self.inter_feat is None else self.inter_feat) or "nothing"
                raise ValueError(
                    f"{where}: column {field!r} ({key}) is not loaded; the file must have it, and "
                    f"load_col: {{inter: [...]}} must name it (load_col is {self.config['load_col']}; loaded "
                    f"of the file: {loaded})"
                )
        if self.benchmark_filename_list is None and self.field2type[self.time_field] is not FeatureType.FLOAT:
            raise ValueError(f"{where}: column {self.time_field!r} (TIME_FIELD) must be of type float")
        if len(self.inter_feat) == 0:
            raise ValueError(f"{where}: no interaction, only the line of column names")
        if self.benchmark_filename_list is None:
            self._check_times(where)

    def _check_times(self, where: str) -> None:
        """Refuse what RecBole would take for the mean of all times, and so put into a wrong order."""
        bad = np.flatnonzero(~np.isfinite(self.inter_feat[self.time_field].to_numpy()))
        if len(bad):
            raise ValueError(
                f"{where}: {len(bad)} of {len(self.inter_feat)} interactions have no finite "
                f"{self.time_field!r} (TIME_FIELD), the first in line {bad[0] + 2}. Histories are in its "
                "order, so each must have one: complete or remove these lines"
            )

    @property
    def _item_list_field(self) -> str:
        return f"{self.iid_field}{self.config['LIST_SUFFIX']}"

    def _load_feat(self, filepath: str, source: Any) -> pd.DataFrame | None:
        """Read interactions column by column, tokens as categories; all else as RecBole does."""
        separator = self.config["field_separator"]
        if source is not FeatureSource.INTERACTION or len(separator) != 1:
            return self._load_feat_as_recbole(filepath, source)
        load, unload = self._get_load_and_unload_col(source)
        header = read_header(filepath, separator, self.config["encoding"])
        columns = {
            field: kind
            for field, kind in header.items()
            if (load is None or field in load) and (unload is None or field not in unload)
        }
        if not columns or any(kind.value.endswith("seq") for kind in columns.values()):
            return self._load_feat_as_recbole(filepath, source)
        for field, kind in columns.items():
            self.set_field_property(field, kind, source, 1)
            if kind is FeatureType.FLOAT:
                self.field2bucketnum[field] = 2
        return read_columns(filepath, columns, separator, self.config["encoding"])

    def _load_feat_as_recbole(self, filepath: str, source: Any) -> pd.DataFrame | None:
        table: pd.DataFrame | None = super()._load_feat(filepath, source)
        return table

    # Filtering and ids

    def _remove_duplication(self) -> None:
        """Remove repeated user-item pairs, the earliest or latest by time kept; ties in the file's order."""
        if self.config["rm_dup_inter"] is None:
            return
        interactions = self.inter_feat
        if self.time_field in interactions:
            interactions = interactions.sort_values(self.time_field, kind="stable")
        self.inter_feat = interactions.drop_duplicates(
            subset=[self.uid_field, self.iid_field], keep=self.config["rm_dup_inter"]
        )

    def _filter_inter_by_user_or_item(self) -> None:
        """Remove interactions of users and items that the files of users and items do not list."""
        if self.config["filter_inter_by_user_or_item"] is not True:
            return
        for field, feat in ((self.uid_field, self.user_feat), (self.iid_field, self.item_feat)):
            if feat is None:
                continue
            listed = self.inter_feat[field].isin(feat[field])
            if not listed.all():
                self.inter_feat = self.inter_feat[listed].reset_index(drop=True)

    def _filter_by_inter_num(self) -> None:
        """Filter by ``user_inter_num_interval`` and ``item_inter_num_interval`` until nothing changes."""
        if self.config["user_inter_num_interval"] is None and self.config["item_inter_num_interval"] is None:
            return
        left, users_left, items_left = filter_by_counts(
            self._count_rule(self.uid_field, self.user_feat, self.config["user_inter_num_interval"]),
            self._count_rule(self.iid_field, self.item_feat, self.config["item_inter_num_interval"]),
        )
        if left is not None:
            self.inter_feat = self.inter_feat.take(left).reset_index(drop=True)
        if self.user_feat is not None:
            self.user_feat = self.user_feat[users_left].reset_index(drop=True)
        if self.item_feat is not None:
            self.item_feat = self.item_feat[items_left].reset_index(drop=True)

    def _count_rule(self, field: str, feat: pd.DataFrame | None, interval: str | None) -> CountRule:
        codes, tokens = _codes(self.inter_feat[field])
        listed = np.empty(0, dtype=np.int64) if feat is None else pd.Index(tokens).get_indexer(feat[field])
        intervals = self._parse_intervals_str(interval)

        def allowed(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
            if not intervals:
                return np.ones(len(counts), dtype=bool)
            within: npt.NDArray[np.bool_] = self._within_intervals(counts, intervals)
            return within

        return CountRule(codes, allowed, listed, intervals[0][1] if intervals else -1)

    def _reset_index(self) -> None:
        """Count the rows left by the filters from 0 on.

        Raises:
            ValueError: there are none.
        """
        if self.inter_feat.empty:
            raise ValueError(
                f"{self.dataset_name}: no interaction is left by the filters (rm_dup_inter, val_interval, "
                "filter_inter_by_user_or_item, user_inter_num_interval, item_inter_num_interval)"
            )
        super()._reset_index()

    def _remap(self, remap_list: list[tuple[pd.DataFrame, str, FeatureType]]) -> None:
        """Give ids to the tokens of columns that share one space of ids from 1 on, as they first appear."""
        if not remap_list:
            return
        parts = []  # per column: place (n,) of each value among its tokens, tokens as they first appear
        for feat, field, kind in remap_list:
            values = feat[field] if kind is FeatureType.TOKEN else np.concatenate(feat[field].to_numpy())
            parts.append(_codes_by_appearance(values))
        ids, tokens = pd.factorize(np.concatenate([part_tokens for _, part_tokens in parts]))
        names = ["[PAD]", *tokens]
        id_token, token_id = np.array(names), {name: id_ for id_, name in enumerate(names)}
        first = 0
        for (feat, field, kind), (codes, part_tokens) in zip(remap_list, parts):
            # the last place serves code -1, a missing value
            id_of_code = np.append(ids[first : first + len(part_tokens)] + 1, 0).astype(np.int32)
            first += len(part_tokens)
            if field not in self.field2id_token:
                self.field2id_token[field], self.field2token_id[field] = id_token, token_id
            new_ids = id_of_code[codes]
            if kind is FeatureType.TOKEN:
                feat[field] = new_ids
            else:
                ends = np.cumsum(feat[field].map(len))
                feat[field] = pd.Series(np.split(new_ids, ends[:-1]), index=feat.index)

    # From a table to rows

    def _change_feat_format(self) -> None:
        """Turn tables into tensors, and interactions into a log with rows over it."""
        for name in self.feat_name_list:
            if name != "inter_feat":
                setattr(self, name, self._dataframe_to_interaction(getattr(self, name)))
        # Not the inherited method: it ends in a sort by timestamps that are rounded to float32.
        if self.benchmark_filename_list is None:
            users, moments = self.inter_feat[self.uid_field].to_numpy(), times.of_table(self)
            assert moments is not None  # its column was checked
            order = np.lexsort((moments, users))
            times.keep_by_user(self, users, moments[order])
            del users, moments
            self.inter_feat = self._compact_columns(order)
            self.data_augmentation()
        else:
            histories = self.inter_feat.pop(self._item_list_field)
            self.inter_feat = self._compact_columns(np.arange(len(histories)))
            self._index_histories(histories)

    def _compact_columns(self, order: npt.NDArray[np.int64]) -> Interaction:
        """Move the table of interactions to tensors, column by column, in the order given."""
        columns = {}
        for field in list(self.inter_feat):
            column = self.inter_feat.pop(field).iloc[order].to_frame()
            columns[field] = compact(self._dataframe_to_interaction(column)[field])
        return Interaction(columns)

    def _aug_presets(self) -> None:
        """Describe the sequence fields to RecBole: those of batches, and those that are made when read."""
        suffix = self.config["LIST_SUFFIX"]
        extra = getattr(self.config.model_class, "sequence_fields", ())
        self.sequence_fields = [field for field in self.inter_feat if field in (self.iid_field, *extra)]
        for field in self.inter_feat:
            if field == self.uid_field:
                continue
            setattr(self, f"{field}_list_field", field + suffix)
            kind, length = self.field2type[field], self.max_item_list_len
            token_like = kind in (FeatureType.TOKEN, FeatureType.TOKEN_SEQ)
            self.set_field_property(
                field + suffix,
                FeatureType.TOKEN_SEQ if token_like else FeatureType.FLOAT_SEQ,
                FeatureSource.INTERACTION,
                (length, self.field2seqlen[field]) if kind.value.endswith("seq") else length,
            )
        self.set_field_property(self.item_list_length_field, FeatureType.TOKEN, FeatureSource.INTERACTION, 1)

    def data_augmentation(self) -> None:
        """Make ``inter_feat``, the sorted interactions, the log, and set ``inter_feat`` to rows over it.

        Raises:
            ValueError: no user has two interactions, so that there is nothing to predict.
        """
        self._aug_presets()
        users = self.inter_feat[self.uid_field].numpy()
        targets, lengths = next_item_rows(users, self.max_item_list_len)
        if len(targets) == 0:
            raise ValueError(
                f"{self.dataset_name}: no user has more than one interaction, so there is no next item to "
                "learn or to predict (user_inter_num_interval: '[2,inf)' would leave nothing)"
            )
        starts = np.flatnonzero(starts_of_runs(users))
        self.user_starts = torch.zeros(self.user_num, dtype=torch.int64)
        self.user_starts[users[starts]] = torch.from_numpy(starts)
        self.log = self.inter_feat
        rows = select(self.log, targets)
        rows[self.item_list_length_field] = compact(torch.from_numpy(lengths))
        rows[POSITION] = compact(torch.from_numpy(targets))
        self.log.drop(self.uid_field)
        self.inter_feat = self._over_log(rows, list(self.log))

    def _over_log(self, rows: Interaction, fields: list[str]) -> Rows:
        sources = {getattr(self, f"{field}_list_field"): field for field in fields}
        return Rows(rows.interaction, self.log, self.max_item_list_len, self.item_list_length_field, sources)

    def _benchmark_presets(self) -> None:
        """Describe the prepared item histories of benchmark files to RecBole.

        Raises:
            ValueError: they are empty, too long, or do not share the ids of the items.
        """
        field = self._item_list_field
        if field not in self.alias["item_id"]:
            raise ValueError(
                f"alias_of_item_id must name {field!r}, whose values are items, with benchmark_filename"
            )
        lengths = self.inter_feat[field].map(len)
        if lengths.min() == 0:
            raise ValueError(f"{self.dataset_name}: {(lengths == 0).sum()} rows have nothing in {field!r}")
        if lengths.max() > self.max_item_list_len:
            raise ValueError(
                f"MAX_ITEM_LIST_LENGTH must be at least {lengths.max()}, got {self.max_item_list_len}: so "
                f"many items has {field!r}"
            )
        setattr(self, f"{self.iid_field}_list_field", field)
        self.sequence_fields = [self.iid_field]
        self.max_item_list_len = int(lengths.max())
        self.set_field_property(self.item_list_length_field, FeatureType.TOKEN, FeatureSource.INTERACTION, 1)
        self.inter_feat[self.item_list_length_field] = lengths

    def _index_histories(self, histories: pd.Series[Any]) -> None:
        """Set the log to the prepared item histories, each with its target behind it."""
        lengths = self.inter_feat[self.item_list_length_field].long()
        targets = (lengths + 1).cumsum(0) - 1  # (n,) positions
        items = torch.empty(int(targets[-1]) + 1, dtype=torch.int64)
        is_history = torch.ones(len(items), dtype=torch.bool)
        is_history[targets] = False
        items[is_history] = torch.from_numpy(np.concatenate(histories.to_numpy())).long()
        items[targets] = self.inter_feat[self.iid_field].long()
        self.log = Interaction({self.iid_field: compact(items)})
        self.inter_feat[POSITION] = compact(targets)
        self.inter_feat = self._over_log(self.inter_feat, [self.iid_field])

    # Splits

    def build(self) -> list[IndexedSequenceDataset]:
        """Split into training, validation and test data; windows are cut of the training data alone.

        Raises:
            ValueError: ``eval_args`` asks for an order other than by time, or for a part that is empty.
        """
        datasets: list[IndexedSequenceDataset] = super().build()
        for part, dataset in zip(_parts_asked_for(self.config), datasets):
            if part and len(dataset.inter_feat) == 0:
                raise ValueError(
                    f"{self.dataset_name}: no interaction is left for {part} by eval_args: split: "
                    f"{self.config['eval_args']['split']}, since only {len(self.inter_feat)} follow another "
                    "one of their user. Take longer histories, or a split without this part"
                )
        if self.train_positions == "all":
            datasets[0]._cut_windows()
        return datasets

    def _cut_windows(self) -> None:
        positions = self.inter_feat[POSITION].numpy()
        if self.benchmark_filename_list is None:
            order = np.argsort(positions)
            continues = continues_position(positions[order])
        else:
            users = self.inter_feat[self.uid_field].numpy()
            lengths = self.inter_feat[self.item_list_length_field].numpy()
            order = np.argsort(users, kind="stable")
            continues = continues_history(
                self.log[self.iid_field].numpy(), positions[order], lengths[order], users[order]
            )
        last_rows, n_targets = cut_windows(continues, self.max_item_list_len)
        self.windows = self.inter_feat[order[last_rows]]
        self.windows[N_TARGETS] = torch.from_numpy(n_targets)

    def leave_one_out(self, group_by: str, leave_one_mode: str) -> list[IndexedSequenceDataset]:
        """Split by leaving the last rows of each group out (RecBole: ``Dataset.leave_one_out``).

        With ``temporal_holdout`` of the test users' rows alone (:mod:`recbole_sce.data.temporal`).
        """
        if self.config[temporal.KEY] is not None:
            return self._parts(temporal.holdout_parts(self))
        modes = {"valid_and_test": (0, 1, 2), "valid_only": (0, 1, None), "test_only": (0, None, 1)}
        if leave_one_mode not in modes:
            raise ValueError(f"eval_args: split LS: {leave_one_mode!r} is not one of {', '.join(modes)}")
        which = modes[leave_one_mode]
        parts = leave_one_out_rows(
            self.inter_feat[group_by].numpy(), n_held_out=sum(part is not None for part in which) - 1
        )
        return self._parts([np.empty(0, dtype=np.int64) if part is None else parts[part] for part in which])

    def split_by_ratio(
        self, ratios: list[float], group_by: str | None = None
    ) -> list[IndexedSequenceDataset]:
        """Split by ratios, in each group or over all rows (RecBole: ``Dataset.split_by_ratio``)."""
        total = sum(ratios)

        def cuts_of(size: int) -> list[int]:
            cuts: list[int] = self._calcu_split_ids(tot=size, ratios=[ratio / total for ratio in ratios])
            return cuts

        keys = np.zeros(len(self), dtype=np.int64) if group_by is None else self.inter_feat[group_by].numpy()
        return self._parts(ratio_rows(keys, cuts_of))

    def _parts(self, rows: list[npt.NDArray[np.int64]]) -> list[IndexedSequenceDataset]:
        self._drop_unused_col()
        return [self.copy(self.inter_feat[part]) for part in rows]

    def copy(self, new_inter_feat: Interaction) -> IndexedSequenceDataset:
        """Return a data set of other rows over the same log (RecBole: ``Dataset.copy``), without windows."""
        copied: IndexedSequenceDataset = super().copy(new_inter_feat)
        copied.windows = None
        return copied

    # Batches

    def __getitem__(self, index: str | Index, join: bool = True) -> Any:
        """Return a batch: columns of the rows, their padded sequences, user and item features.

        Sequences are (B, L) of the dtype of their column, 0 behind the end of a history. The name of a column
        instead of row numbers gives the column of all rows (RecBole: ``Dataset.__getitem__``).
        """
        if isinstance(index, str):
            return widen(self.inter_feat[index])
        batch = self._batch(self.inter_feat[index])
        return self.join(batch) if join else batch

    @property
    def training_rows(self) -> Interaction:
        """What training batches are made of: windows where there are any, else rows."""
        rows: Interaction = self.inter_feat if self.windows is None else self.windows
        return rows

    def training_sizes(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Return the length of the history (n,) of each training row, and how many targets it trains (n,)."""
        lengths = self.training_rows[self.item_list_length_field].numpy()
        if self.windows is None:
            return lengths, np.ones_like(lengths)
        return lengths, self.windows[N_TARGETS].numpy()

    def training_batch(self, index: Index, cut: bool = False) -> Batch:
        """Return training rows as :meth:`__getitem__` returns rows; windows have all their targets, too.

        Args:
            index: which of :attr:`training_rows`.
            cut: whether sequences are as wide as the longest of the batch; else ``MAX_ITEM_LIST_LENGTH``.
        """
        joined: Batch = self.join(self._batch(self.training_rows[index], cut))
        return joined

    def _batch(self, chosen: Interaction, cut: bool = False) -> Batch:
        batch = Batch({field: widen(chosen[field]) for field in chosen})
        if not isinstance(chosen, Rows):  # what a caller has put together and given to copy
            return batch
        del batch[POSITION]
        n_targets = batch.interaction.pop(N_TARGETS, None)  # (B,)
        width = int(batch[self.item_list_length_field].max()) if cut else self.max_item_list_len
        for field in self.sequence_fields:
            name = getattr(self, f"{field}_list_field")
            if field == self.iid_field and n_targets is not None:
                batch[name], targets = chosen.sequences_and_targets(name, n_targets, width)
                batch[target_list_field(self.config)] = targets
            else:
                batch[name] = chosen.sequences(name, width)
        return batch

    def history(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return all that came before the targets of rows, longer ago than ``MAX_ITEM_LIST_LENGTH`` too.

        Where histories come from files (``benchmark_filename``), what the files hold.

        Args:
            rows: (B,) int64 rows of ``inter_feat``.

        Returns:
            For each of H interactions, the place (H,) int64 in ``rows`` and the item (H,) int64.
        """
        stops = self.inter_feat[POSITION][rows].long()  # (B,)
        if self.user_starts is None:
            lengths = self.inter_feat[self.item_list_length_field][rows].long()
        else:
            lengths = stops - self.user_starts[self.inter_feat[self.uid_field][rows].long()]
        places, items = values_of_slices(self.log[self.iid_field], stops - lengths, stops)
        return places, items.long()

    # Counts and statistics

    def counter(self, field: str) -> Counter[int]:
        """Return how often each token of ``field`` occurs among the interactions (RecBole: ``counter``)."""
        if field not in self.inter_feat:
            raise ValueError(f"{field!r} is not a column of the interactions")
        if self.field2type[field] is not FeatureType.TOKEN:
            raise ValueError(f"{field!r} is not of type token")
        values, counts = np.unique(np.asarray(self.inter_feat[field]), return_counts=True)
        return Counter(dict(zip(values.tolist(), counts.tolist())))

    @property
    def avg_actions_of_users(self) -> float:
        """Mean number of interactions of a user who has any."""
        return self._mean_count(self.uid_field)

    @property
    def avg_actions_of_items(self) -> float:
        """Mean number of interactions of an item that has any."""
        return self._mean_count(self.iid_field)

    def _mean_count(self, field: str) -> float:
        values = np.asarray(self.inter_feat[field])
        return len(values) / int(np.count_nonzero(np.bincount(values)))

    def inter_matrix(self, form: str = "coo", value_field: str | None = None) -> Any:
        """Return the (users, items) matrix of the rows' targets and of each user's first interaction.

        RecBole: ``SequentialDataset.inter_matrix``; the same entries. A first interaction is the history of
        a row of length 1, and so is counted with the part of the data that has that row.
        """
        rows = self.inter_feat
        fields = [self.uid_field, self.iid_field, *([] if value_field is None else [value_field])]
        second = select(rows, rows[self.item_list_length_field] == 1)
        first = select(self.log, second[POSITION] - 1)
        interactions = Interaction(
            {
                field: torch.cat([rows[field], (first if field in first else second)[field]])
                for field in fields
            }
        )
        return self._create_sparse_matrix(interactions, self.uid_field, self.iid_field, form, value_field)

    def _history_matrix(
        self, row: str, value_field: str | None = None, max_history_len: int | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return histories of users (or items) as a padded matrix, in random order (RecBole: same name).

        Returns:
            Partners (rows, width) int64, values (rows, width) float32, lengths (rows,) int64.
        """
        own, other = (self.uid_field, self.iid_field) if row == "user" else (self.iid_field, self.uid_field)
        if value_field is not None and value_field not in self.inter_feat:
            raise ValueError(f"value_field {value_field!r} is not a column of the interactions")
        n_rows = self.user_num if row == "user" else self.item_num
        shuffled = torch.randperm(len(self.inter_feat))
        order = shuffled[self.inter_feat[own][shuffled].argsort(stable=True)]  # (n,)
        owners = self.inter_feat[own][order]
        counts = torch.bincount(owners, minlength=n_rows)  # (rows,)
        width = int(counts.max()) if max_history_len is None else min(max_history_len, int(counts.max()))
        starts = counts.cumsum(0) - counts
        lengths = counts.clamp(max=width)
        partners = widen(gather_padded(self.inter_feat[other][order], starts, lengths, width))
        if value_field is None:
            values = (torch.arange(width) < lengths.unsqueeze(-1)).float()
        else:
            values = gather_padded(self.inter_feat[value_field][order].float(), starts, lengths, width)
        return partners, values, lengths


def _parts_asked_for(config: Config) -> list[str]:
    """Return the names of the parts that ``eval_args`` asks for, in RecBole's order; '' for the others."""
    parts = ["training", "validation", "test"]
    left_out = {"valid_only": "test", "test_only": "validation"}
    how = next(iter((config["eval_args"]["split"] or {}).values()), None)
    if isinstance(how, str):
        return ["" if part == left_out.get(how) else part for part in parts]
    return [part if ratio else "" for part, ratio in zip(parts, how or ())]


def _codes(values: Any) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return integers (n,) for the values of a column, -1 where missing, and the tokens they stand for."""
    if isinstance(getattr(values, "dtype", None), pd.CategoricalDtype):
        return values.cat.codes.to_numpy(), np.asarray(values.cat.categories)
    return pd.factorize(np.asarray(values))


def _codes_by_appearance(values: Any) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Like :func:`_codes`, with codes in the order in which the tokens first appear."""
    codes, tokens = _codes(values)
    places, present = pd.factorize(codes)
    missing = np.flatnonzero(present == -1)
    if len(missing):
        places = np.where(codes < 0, -1, places - (places > missing[0]))
        present = np.delete(present, missing)
    return places, tokens[present]
