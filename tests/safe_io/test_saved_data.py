"""Saved data sets and data loaders: what is written, what is read back, and what is refused unrun."""

from __future__ import annotations

import copyreg
import functools
import io
import logging
import os
import pickle
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import malice
import numpy as np
import pandas as pd
import pytest
import torch
from malice import Call
from recbole.config import Config
from recbole.data import create_dataset, data_preparation, utils
from recbole.data.dataloader import FullSortEvalDataLoader
from recbole.data.dataset import Dataset, SequentialDataset
from recbole.data.dataset import dataset as dataset_module
from recbole.data.transform import Equal
from recbole.model.sequential_recommender import SASRec
from recbole.utils import FeatureType, init_seed

from recbole_sce.compat import SavedDataError
from recbole_sce.safe_io.saved_data import dump_saved, load_saved

Tiny = dict[str, Any]
WITHOUT_NEGATIVES = {"train_neg_sample_args": None}
MODELS: dict[str, Tiny] = {
    "SASRecSCE": WITHOUT_NEGATIVES,
    "BERT4RecSCE": WITHOUT_NEGATIVES,
    "SASRec": WITHOUT_NEGATIVES,
    "RepeatNet": WITHOUT_NEGATIVES,
    "MultiVAE": WITHOUT_NEGATIVES,
    "BPR": {},
    "DeepFM": {"eval_args": {"mode": "uni5"}},
    "DIEN": {"eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "pop5"}},
}


def written(content: Any) -> io.BytesIO:
    stream = io.BytesIO()
    dump_saved(content, stream)
    stream.seek(0)
    return stream


def stored(content: Any) -> Any:
    return load_saved(written(content))


def config_of(model: str, tiny_dataset: Tiny, **settings: Any) -> Config:
    common = {"train_batch_size": 16, "metrics": ["Recall"], "valid_metric": "Recall@10"}
    return Config(model, "tiny", config_dict={**tiny_dataset, **common, **MODELS[model], **settings})


def batches(loaders: Any) -> list[dict[str, Any]]:
    """Return the columns of every batch of training, validation and test data."""
    columns = []
    for loader in loaders:
        for batch in loader:
            interaction = batch[0] if isinstance(batch, tuple) else batch
            columns.append({**interaction.interaction, "rest": batch[1:] if isinstance(batch, tuple) else ()})
    return columns


def assert_equal(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            assert_equal(one[key], other[key])
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for left, right in zip(one, other):
            assert_equal(left, right)
    elif isinstance(one, np.ndarray):
        np.testing.assert_array_equal(one, other)
    else:
        assert one == other


class TestRoundTrip:
    @pytest.fixture(params=["recbole_sce", "RecBole alone"])
    def writer(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
        if request.param == "RecBole alone":
            if int(pd.__version__.split(".")[0]) > 2:
                pytest.skip("RecBole alone cannot make a data set with pandas 3")
            for module in (utils, dataset_module):
                monkeypatch.setitem(vars(module.pickle), "dump", pickle.dump)
        return str(request.param)

    @pytest.mark.parametrize("model", MODELS)
    def test_a_second_run_reads_what_the_first_one_saved(
        self, model: str, tiny_dataset: Tiny, writer: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        saving = config_of(model, tiny_dataset, save_dataset=True, save_dataloaders=True)
        first = data_preparation(saving, create_dataset(saving))
        files = sorted(Path("saved").iterdir())
        assert len(files) == 2
        with files[1].open("rb") as file:
            plain = [loader for loader, _ in pickle.load(file)]  # RecBole alone reads them too
        config = config_of(model, tiny_dataset)
        caplog.set_level(logging.INFO)
        dataset = create_dataset(config)
        assert "Load filtered dataset from" in caplog.text
        assert type(dataset).__name__ in files[0].name or type(dataset).__name__ in files[1].name
        second = data_preparation(config, dataset)
        assert "Load split dataloaders from" in caplog.text
        assert [type(loader) for loader in second] == [type(loader) for loader in first]
        assert [vars(loader).keys() for loader in second] == [vars(loader).keys() for loader in plain]
        read = []
        for loaders in (first, second):
            init_seed(0, reproducibility=True)
            read.append(batches(loaders))
        assert len(read[0]) > 3
        assert_equal(*read)

    def test_a_data_set_of_its_own_settings_is_made_anew(
        self, tiny_dataset: Tiny, caplog: pytest.LogCaptureFixture
    ) -> None:
        create_dataset(config_of("SASRecSCE", tiny_dataset, save_dataset=True))
        caplog.set_level(logging.INFO)
        create_dataset(config_of("SASRecSCE", tiny_dataset, rm_dup_inter="first"))
        assert "Load filtered dataset from" not in caplog.text

    def test_what_is_shared_stays_shared(self, tiny_dataset: Tiny) -> None:
        config = config_of("SASRecSCE", tiny_dataset, save_dataloaders=True)
        data_preparation(config, create_dataset(config))
        train, valid, test = (
            loader._dataset
            for loader in data_preparation(config, create_dataset(config_of("SASRecSCE", tiny_dataset)))
        )
        assert train.log is valid.log is test.log

    def test_a_users_own_data_set(self, tiny_dataset: Tiny) -> None:
        config = config_of("SASRec", tiny_dataset)
        read = stored(OwnDataset(config))
        assert type(read) is OwnDataset
        assert read.user_num == 61


class OwnDataset(SequentialDataset):
    """A data set of the user's."""


@pytest.mark.parametrize("dump", [dump_saved, pickle.dump])
@pytest.mark.parametrize("index", [None, [4, 7, 9]])
def test_tables(dump: Callable[..., None], index: Any) -> None:
    if dump is pickle.dump and int(pd.__version__.split(".")[0]) > 2:
        pytest.skip("RecBole alone cannot make a data set with pandas 3")
    table = pd.DataFrame({"a": [1, 2, 3], "b": [0.5, np.nan, 1], "c": [4, 5, 6]}, index=index)
    table["list"] = [np.arange(2), np.arange(0), np.arange(3)]
    stream = io.BytesIO()
    dump(table, stream)
    stream.seek(0)
    pd.testing.assert_frame_equal(load_saved(stream), table)


@pytest.mark.parametrize("protocol", range(3, 6))
@pytest.mark.parametrize(
    "value",
    [
        *(np.arange(6).reshape(2, 3).astype(code) for code in ("int8", ">i4", "uint16", "float32", "bool")),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.array(["[PAD]", "ä"]),
        np.array([np.arange(2), None, "x"], dtype=object),
        np.float32(0.5),
        np.array(3),
    ],
    ids=repr,
)
def test_arrays(value: Any, protocol: int) -> None:
    read = load_saved(io.BytesIO(pickle.dumps(value, protocol)))
    assert type(read) is type(value)
    assert (read.dtype, read.shape) == (value.dtype, value.shape)
    for one, other in zip(np.ravel(read), np.ravel(value)):
        assert np.array_equal(one, other)


@pytest.mark.parametrize(
    "value",
    [
        torch.arange(6).reshape(2, 3).t(),
        torch.tensor(0.5, dtype=torch.float64),
        torch.tensor([True, False]),
        torch.zeros(0, 4, dtype=torch.int32),
        torch.arange(10)[3:6],
    ],
    ids=repr,
)
def test_tensors(value: torch.Tensor) -> None:
    read = stored(value)
    assert (read.dtype, read.stride()) == (value.dtype, value.stride())
    assert torch.equal(read, value)


def test_a_list_in_itself() -> None:
    value: list[Any] = [1]
    value.append(value)
    read = stored(value)
    assert read[1] is read
    assert read[0] == 1


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Name the folder that exists once the code in a file has run."""
    return tmp_path / "made"


def _opened(path: str | Path) -> Any:
    with open(path, "rb") as file:
        return load_saved(file)


LOADERS: dict[str, tuple[str, Callable[[Config], Any]]] = {
    "saved/tiny-SequentialDataset.pth": ("SASRec", create_dataset),
    "saved/tiny-IndexedSequenceDataset.pth": ("SASRecSCE", create_dataset),
    "saved/tiny-for-SASRec-dataloader.pth": ("SASRec", utils.load_split_dataloaders),
    "saved/tiny-for-SASRecSCE-dataloader.pth": ("SASRecSCE", utils.load_split_dataloaders),
    "given.dataset": ("SASRecSCE", create_dataset),
    "given.loaders": ("SASRecSCE", utils.load_split_dataloaders),
}


class TestForeignCode:
    @pytest.mark.parametrize("name", LOADERS)
    @pytest.mark.parametrize("kind", malice.OPCODES)
    def test_is_run_by_no_loader(
        self, name: str, kind: str, tiny_dataset: Tiny, made: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        Path("saved").mkdir()
        Path(name).write_bytes(malice.OPCODES[kind](made))
        model, load = LOADERS[name]
        paths = {f"{what}_save_path": f"given.{what[-7:]}" for what in ("dataset", "dataloaders")}
        config = config_of(model, tiny_dataset, **(paths if name.startswith("given") else {}))
        refusal = rf"{name}.*refused.*it names (os|posix|nt|builtins)\."
        if name.startswith("given"):
            with pytest.raises(SavedDataError, match=refusal):
                load(config)
        else:  # nobody named the file: the run goes on without it
            load(config)
            assert re.search(refusal, caplog.text)
        assert not made.exists()

    @pytest.mark.parametrize("kind", malice.OPCODES)
    def test_would_have_run(self, kind: str, made: Path) -> None:
        try:
            pickle.loads(malice.OPCODES[kind](made))
        finally:
            assert made.exists()

    def test_by_an_extension_code(self, made: Path) -> None:
        copyreg.add_extension("os", "mkdir", 240)
        payload = pickle.dumps(Call(os.mkdir, str(made)), 2).replace(b"cposix\nmkdir\n", b"\x82\xf0")
        try:
            with pytest.raises(SavedDataError, match=r"os\.mkdir"):
                load_saved(io.BytesIO(payload))
        finally:
            copyreg.remove_extension("os", "mkdir", 240)
        assert not made.exists()

    @pytest.mark.parametrize("wrap", malice.TORCH_FILES)
    @pytest.mark.parametrize("kind", ["REDUCE, protocol 0", "os.system, protocol 2"])
    def test_in_the_bytes_of_a_tensor(self, wrap: str, kind: str, made: Path) -> None:
        content = malice.TORCH_FILES[wrap](malice.OPCODES[kind](made))
        file = pickle.dumps([Call(torch.storage._load_from_bytes, content)])
        with pytest.raises(SavedDataError, match="refused"):
            load_saved(io.BytesIO(file))
        assert not made.exists()
        if "tar" not in wrap:  # which torch reads from files on disk only
            with suppress(Exception):  # the order has been carried out before torch misses its tensor
                pickle.loads(file)
            assert made.exists()

    @pytest.mark.parametrize(
        ("hidden", "named"),
        [
            (lambda evil, tiny: {"a": [(evil,)]}, r"mkdir"),
            (lambda evil, tiny: np.array([evil, 1], dtype=object), r"mkdir"),
            (lambda evil, tiny: pd.DataFrame({"a": [evil]}), r"mkdir"),
            (lambda evil, tiny: _with(tiny, "inter_feat", evil), r"mkdir"),
            (
                lambda evil, tiny: _with(tiny, "config", _with(tiny.config, "final_config_dict", evil)),
                r"mkdir",
            ),
            (lambda evil, tiny: functools.partial(*evil.call), r"functools\.partial"),
            (lambda evil, tiny: Call(logging.FileHandler, evil.call[1][0]), r"logging\.FileHandler"),
            (lambda evil, tiny: Call(np.load, evil.call[1][0]), r"numpy\.load"),
            (lambda evil, tiny: Call(torch.load, evil.call[1][0]), r"torch\.serialization\.load"),
            (lambda evil, tiny: Call(pd.eval, "1"), r"pandas\..*eval"),
            (lambda evil, tiny: Call(getattr, logging.Logger, "manager"), r"logging\.Logger"),
        ],
    )
    def test_is_refused_wherever_it_hides(
        self, hidden: Callable[..., Any], named: str, tiny_dataset: Tiny, made: Path
    ) -> None:
        content = hidden(Call(os.mkdir, str(made)), Dataset(config_of("BPR", tiny_dataset)))
        with pytest.raises(SavedDataError, match=rf"it names \S*{named}"):
            stored(content)
        assert not made.exists()


def _with(owner: Any, name: str, value: Any) -> Any:
    vars(owner)[name] = value
    return owner


def _beyond_its_storage() -> tuple[Any, ...]:
    """Return the parts of a tensor of two numbers, changed to nine."""
    rebuild, (storage, offset, _, *rest) = torch.zeros(2).__reduce_ex__(2)
    return rebuild, storage, offset, (9,), *rest


class TestAllowedNames:
    """Names that a saved data set needs do nothing else than what it needs them for."""

    @pytest.fixture
    def dataset(self, tiny_dataset: Tiny) -> Dataset:
        return Dataset(config_of("BPR", tiny_dataset))

    def test_config_is_not_called(self, tiny_dataset: Tiny, made: Path) -> None:
        evil = {"x": f"__import__('os').mkdir({str(made)!r})"}
        with pytest.raises(SavedDataError, match=r"it calls recbole\.config\.configurator\.Config"):
            stored(Call(Config, "BPR", "tiny", None, evil))
        assert not made.exists()

    @pytest.mark.parametrize("cls", [Dataset, SASRec, FullSortEvalDataLoader, Equal])
    def test_classes_are_not_called(self, cls: type) -> None:
        with pytest.raises(SavedDataError, match=rf"it calls recbole\..*{cls.__name__}"):
            stored(Call(cls, {}))

    def test_behaviour_is_not_replaced(self, dataset: Dataset) -> None:
        with pytest.raises(SavedDataError, match=r"it replaces recbole.*Dataset\.build"):
            stored(_with(dataset, "build", []))

    def test_classes_are_no_values(self, dataset: Dataset) -> None:
        with pytest.raises(SavedDataError, match=r"it mentions recbole\.\S*SASRec out of place"):
            stored(_with(dataset, "inter_feat", SASRec))

    def test_yaml_is_read_by_no_other_loader(self, dataset: Dataset) -> None:
        import yaml

        dataset.config.yaml_loader = yaml.UnsafeLoader
        with pytest.raises(SavedDataError, match=r"it names yaml\.loader\.UnsafeLoader"):
            stored(dataset)

    @pytest.mark.parametrize(
        "name", ["__init__", "__class__", "__reduce__", "config"], ids=lambda name: f"getattr {name}"
    )
    def test_attributes_of_a_data_set_are_not_reached(self, dataset: Dataset, name: str) -> None:
        with pytest.raises(SavedDataError, match=rf"it asks for the attribute '{name}' of recbole\."):
            stored(Call(getattr, dataset, name))

    def test_attributes_of_a_class_are_not_reached(self) -> None:
        with pytest.raises(SavedDataError, match=r"it asks for the attribute '__init__' of .*Config"):
            stored(Call(getattr, Config, "__init__"))

    @pytest.mark.parametrize("name", ["mro", "__init__", "GENERAL.__class__"])
    def test_enums_give_their_members_only(self, name: str) -> None:
        assert stored(Call(getattr, FeatureType, "TOKEN")) is FeatureType.TOKEN
        with pytest.raises(SavedDataError, match="is not what RecBole writes"):
            stored(Call(getattr, FeatureType, name))

    def test_classes_that_are_read_are_not_changed(self, dataset: Dataset) -> None:
        before = dict(vars(Equal))
        patch = b"\x80\x02crecbole.data.transform\nEqual\n(N}(V__call__\nK\x01utb."
        with pytest.raises(SavedDataError):
            load_saved(io.BytesIO(patch))
        assert dict(vars(Equal)) == before
        assert pickle.loads(patch) is Equal  # so it would have been
        assert Equal.__call__ == 1
        Equal.__call__ = before["__call__"]

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            (Call(np.dtype, "V8"), None),
            (Call(np.dtype, [("a", "O")]), "it names the dtype"),
            (Call(np.dtype, "i4,O"), "it names the dtype"),
            (Call(np.float64(0).__reduce__()[0], np.dtype("O"), b"x"), "a numpy scalar of objects"),
            (Call(torch.storage._load_from_bytes, b"no tensor"), "refused"),
            (Call(*_beyond_its_storage()), "refused"),
        ],
    )
    def test_parts_of_arrays_and_tensors_are_checked(self, value: Any, message: Any) -> None:
        if message is None:
            assert stored(value) == np.dtype("V8")
            return
        with pytest.raises(SavedDataError, match=message):
            stored(value)


@pytest.mark.parametrize("damage", ["cut", "text", "empty"])
def test_a_damaged_file_is_named(tiny_dataset: Tiny, damage: str) -> None:
    whole = written(Dataset(config_of("BPR", tiny_dataset))).getvalue()
    Path("given").write_bytes({"cut": whole[: len(whole) // 2], "text": b"no data set", "empty": b""}[damage])
    with pytest.raises(SavedDataError, match="given is no complete saved data set"):
        _opened("given")


@pytest.mark.parametrize("content", [{}, [], [(1, 2)] * 3, [torch.zeros(2)] * 3])
@pytest.mark.parametrize("load", [create_dataset, utils.load_split_dataloaders])
def test_a_file_that_holds_something_else_is_named(
    tiny_dataset: Tiny, content: Any, load: Callable[[Config], Any]
) -> None:
    Path("given").write_bytes(written(content).getvalue())
    paths = {"dataset_save_path": "given", "dataloaders_save_path": "given"}
    with pytest.raises(
        SavedDataError, match="save_path must be a file that fits this run, got 'given': it holds no data"
    ):
        load(config_of("BPR", tiny_dataset, **paths))
