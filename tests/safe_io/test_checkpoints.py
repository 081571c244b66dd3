"""Checkpoints: what is written, what is read back, and what is refused without being run."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from recbole.config import Config, configurator
from recbole.data import create_dataset, data_preparation
from recbole.model.sequential_recommender import SASRec
from recbole.trainer import Trainer, trainer
from recbole.utils import ModelType

from recbole_sce.compat import CheckpointError, allow_model_class, safe_load, save_checkpoint
from recbole_sce.safe_io import checkpoints

Tiny = dict[str, object]


class OwnModel(SASRec):
    """A recommender of the user's."""


@pytest.fixture
def config(tiny_dataset: Tiny) -> Config:
    return Config("SASRec", "tiny", config_dict={**tiny_dataset, "train_neg_sample_args": None})


@pytest.fixture
def state(config: Config) -> dict[str, Any]:
    """What a trainer keeps, with a numpy number as the best score, as early stopping leaves it."""
    return {
        "config": config,
        "epoch": 3,
        "best_valid_score": np.float64(0.25),
        "state_dict": torch.nn.Linear(2, 2).state_dict(),
        "other_parameter": {},
        "optimizer": {"state": {0: {"step": torch.tensor(4.0)}}, "param_groups": [{"lr": 0.001}]},
    }


class Touch:
    """Pickled, it is an order to whoever reads it: make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


class CallConfig:
    """Pickled, it is a call of RecBole's own ``Config``, which evaluates the strings that it is given."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        evil = {"x": f"__import__('os').mkdir({str(self.path)!r})", "train_neg_sample_args": None}
        return Config, ("SASRec", "tiny", None, evil)


class TestRoundTrip:
    def test_everything_comes_back(self, state: dict[str, Any], config: Config) -> None:
        save_checkpoint(state, "model.pth")
        loaded = safe_load("model.pth")
        assert loaded["epoch"] == 3
        assert type(loaded["best_valid_score"]) is float
        assert loaded["best_valid_score"] == 0.25
        assert loaded["optimizer"]["param_groups"] == [{"lr": 0.001}]
        for name, value in state["state_dict"].items():
            assert torch.equal(loaded["state_dict"][name], value)
        assert type(loaded["config"]) is Config
        assert loaded["config"].model_class is SASRec
        assert loaded["config"].final_config_dict == config.final_config_dict
        assert loaded["config"]["MODEL_TYPE"] is ModelType.SEQUENTIAL
        assert str(loaded["config"]) == str(config)

    def test_recboles_own_way_cannot_be_read_back(self, state: dict[str, Any]) -> None:
        torch.save(state, "model.pth", pickle_protocol=4)
        with pytest.raises(pickle.UnpicklingError):
            torch.load("model.pth", weights_only=True)
        with pytest.raises(CheckpointError, match=r"protocol 4.*rewrite it once"):
            safe_load("model.pth")

    def test_the_advice_on_an_old_file_works(self, state: dict[str, Any]) -> None:
        torch.save(state, "model.pth", pickle_protocol=4)
        with pytest.raises(CheckpointError) as error:
            safe_load("model.pth")
        exec(str(error.value).split("rewrite it once: ")[1])
        assert safe_load("model.pth")["epoch"] == 3

    def test_settings_may_hold_numpy_numbers_and_paths(self, state: dict[str, Any], tmp_path: Path) -> None:
        state["config"]["learning_rate"] = np.float32(0.5)
        state["config"]["nested"] = {"sizes": [np.int64(3), (np.bool_(True),)], "path": tmp_path}
        save_checkpoint(state, "model.pth")
        loaded = safe_load("model.pth")["config"]
        assert loaded["learning_rate"] == 0.5
        assert loaded["nested"] == {"sizes": [3, (True,)], "path": str(tmp_path)}

    def test_arrays_and_sparse_matrices(self, state: dict[str, Any]) -> None:
        dense = np.arange(6.0).reshape(2, 3)
        matrices = [kind(dense) for kind in (scipy.sparse.csr_matrix, scipy.sparse.lil_matrix, np.matrix)]
        state["other_parameter"] = {"array": dense, "ids": np.array([1, 2]), "matrices": matrices}
        save_checkpoint(state, "model.pth")
        loaded = safe_load("model.pth")["other_parameter"]
        assert np.array_equal(loaded["array"], dense)
        assert loaded["ids"].tolist() == [1, 2]
        for before, after in zip(matrices, loaded["matrices"]):
            assert type(after) is type(before)
            assert np.array_equal(after.toarray() if scipy.sparse.issparse(after) else after, dense)

    def test_submodules_are_left_to_the_state_dict(self, state: dict[str, Any]) -> None:
        state["other_parameter"] = {"feature_embed_layer": torch.nn.Linear(2, 2), "kept": torch.ones(1)}
        save_checkpoint(state, "model.pth")
        assert set(safe_load("model.pth")["other_parameter"]) == {"kept"}

    def test_enums_are_written_by_value(self, state: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
        # The first releases of Python 3.11 pickle them as getattr(ModelType, name).
        by_name = lambda self, protocol: (getattr, (type(self), self.name))  # noqa: E731
        monkeypatch.setattr(Enum, "__reduce_ex__", by_name)
        monkeypatch.setattr(ModelType, "__reduce_ex__", by_name)
        save_checkpoint(state, "model.pth")
        assert safe_load("model.pth")["config"]["MODEL_TYPE"] is ModelType.SEQUENTIAL

    def test_a_gpus_checkpoint_is_read_without_a_gpu(
        self, state: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        state["config"]["device"] = torch.device("cuda")
        save_checkpoint(state, "model.pth")
        assert safe_load("model.pth")["config"]["device"] == torch.device("cpu")

    def test_what_could_not_be_read_back_is_not_written(self, state: dict[str, Any]) -> None:
        state["config"]["callback"] = Path.exists
        with pytest.raises(TypeError, match=r"model\.pth was not written.*getattr"):
            save_checkpoint(state, "model.pth")
        assert not os.path.exists("model.pth")


class TestForeignCode:
    @pytest.fixture
    def made(self, tmp_path: Path) -> Path:
        """Name the folder that exists once the code in a checkpoint has run."""
        return tmp_path / "made"

    def test_is_refused_and_not_run(self, state: dict[str, Any], made: Path) -> None:
        torch.save({**state, "x": Touch(made)}, "model.pth")
        with pytest.raises(CheckpointError, match=r"model\.pth was refused.*\.mkdir.*register_model"):
            safe_load("model.pth")
        assert not made.exists()
        torch.load("model.pth", weights_only=False)
        assert made.exists()  # so it would have run

    def test_is_refused_when_written_as_recbole_does(self, state: dict[str, Any], made: Path) -> None:
        torch.save({**state, "x": Touch(made)}, "model.pth", pickle_protocol=4)
        with pytest.raises(CheckpointError):
            safe_load("model.pth")
        assert not made.exists()

    def test_recboles_config_is_not_called(
        self, state: dict[str, Any], made: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delattr(configurator, "eval")  # let it evaluate settings again
        torch.save({**state, "x": CallConfig(made)}, "model.pth")
        safe_load("model.pth")
        assert not made.exists()
        torch.load("model.pth", weights_only=False)
        assert made.exists()

    def test_nor_if_the_user_has_allowed_it(
        self, state: dict[str, Any], made: Path, users_allow_list: list[Any]
    ) -> None:
        torch.serialization.add_safe_globals([Config])
        torch.save({**state, "x": CallConfig(made)}, "model.pth")
        safe_load("model.pth")
        assert not made.exists()
        assert torch.serialization.get_safe_globals() == [Config]

    @pytest.fixture
    def users_allow_list(self) -> Iterator[list[Any]]:
        before = torch.serialization.get_safe_globals()
        torch.serialization.clear_safe_globals()
        yield before
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)

    @pytest.mark.parametrize("damage", ["cut", "text"])
    def test_a_damaged_file_is_named(self, state: dict[str, Any], damage: str) -> None:
        save_checkpoint(state, "model.pth")
        whole = Path("model.pth").read_bytes()
        Path("model.pth").write_bytes(whole[: len(whole) // 2] if damage == "cut" else b"no checkpoint")
        with pytest.raises(CheckpointError, match=r"model\.pth is no complete checkpoint"):
            safe_load("model.pth")

    def test_a_missing_file_stays_a_missing_file(self) -> None:
        with pytest.raises(FileNotFoundError):
            safe_load("no-such-file.pth")


class TestOwnModel:
    @pytest.fixture(autouse=True)
    def _forgotten(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(checkpoints, "_model_classes", {})

    def test_is_allowed_where_it_was_trained(self, state: dict[str, Any]) -> None:
        state["config"].model_class = OwnModel
        save_checkpoint(state, "model.pth")
        assert safe_load("model.pth")["config"].model_class is OwnModel

    def test_is_refused_elsewhere_until_allowed(
        self, state: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        state["config"].model_class = OwnModel
        save_checkpoint(state, "model.pth")
        monkeypatch.setattr(checkpoints, "_model_classes", {})  # a fresh process
        with pytest.raises(CheckpointError, match=r"OwnModel.*register_model"):
            safe_load("model.pth")
        allow_model_class(OwnModel)
        assert safe_load("model.pth")["config"].model_class is OwnModel

    def test_what_is_no_model_of_recbole_is_refused(self, state: dict[str, Any]) -> None:
        import recbole.model.layers

        torch.save({**state, "x": recbole.model.layers.MLPLayers}, "model.pth")
        with pytest.raises(CheckpointError, match=r"recbole\.model\.layers\.MLPLayers"):
            safe_load("model.pth")


class TestTrainer:
    @pytest.fixture
    def tiny_trainer(self, config: Config) -> tuple[Trainer, Any]:
        train_data, _, test_data = data_preparation(config, create_dataset(config))
        return Trainer(config, SASRec(config, train_data.dataset)), test_data

    def test_evaluates_the_best_checkpoint_and_resumes(self, tiny_trainer: tuple[Trainer, Any]) -> None:
        tiny, test_data = tiny_trainer
        expected = tiny.evaluate(test_data, load_best_model=False)
        tiny._save_checkpoint(5, verbose=False)
        with torch.no_grad():
            for parameter in tiny.model.parameters():
                parameter.zero_()
        assert tiny.evaluate(test_data, load_best_model=True) == expected
        tiny.resume_checkpoint(tiny.saved_model_file)
        assert tiny.start_epoch == 6

    def test_fails_without_the_patch(
        self, tiny_trainer: tuple[Trainer, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(trainer, "torch", torch)
        tiny, test_data = tiny_trainer
        tiny._save_checkpoint(5, verbose=False)
        monkeypatch.setenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "1")  # the default since torch 2.6
        with pytest.raises(pickle.UnpicklingError):
            tiny.evaluate(test_data, load_best_model=True)
        with pytest.raises(pickle.UnpicklingError):
            tiny.resume_checkpoint(tiny.saved_model_file)


def test_load_data_and_model_reads_it_without_touching_torch_load(
    config: Config, without: Callable[[Any, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    from recbole import quick_start

    train_data, _, _ = data_preparation(config, create_dataset(config))
    model = SASRec(config, train_data.dataset)
    tiny = Trainer(config, model)
    tiny._save_checkpoint(0, verbose=False)
    torch_load = torch.load
    loaded = quick_start.load_data_and_model(tiny.saved_model_file)
    assert torch.load is torch_load
    assert torch.equal(loaded[1].item_embedding.weight, model.item_embedding.weight)
    without(quick_start, "load_data_and_model")
    monkeypatch.setenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "1")
    with pytest.raises(pickle.UnpicklingError):
        quick_start.load_data_and_model(tiny.saved_model_file)
