"""What RecBole does with a configuration: devices, models, log files."""

from __future__ import annotations

import copy
import importlib.util
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from recbole.config import Config, configurator
from recbole.model.sequential_recommender import SASRec
from recbole.quick_start import quick_start
from recbole.utils import argument_list, get_tensorboard, logger, utils

Without = Callable[[Any, str], None]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["pytest"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


class TestUseGpu:
    @pytest.fixture(autouse=True)
    def _with_a_gpu(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)

    @pytest.mark.parametrize(("use_gpu", "device"), [(False, "cpu"), (True, "cuda")])
    def test_selects_the_device(self, use_gpu: bool, device: str) -> None:
        assert Config("BPR", "ml-100k", config_dict={"use_gpu": use_gpu})["device"].type == device

    def test_does_not_without_the_patch(self, without: Without) -> None:
        without(Config, "_init_device")
        assert Config("BPR", "ml-100k", config_dict={"use_gpu": False})["device"].type == "cuda"


class TestCallersSettings:
    settings: dict[str, Any] = {"eval_step": "2", "train_neg_sample_args": {"distribution": "uniform"}}  # noqa: RUF012

    def test_stay_as_they_are(self) -> None:
        given, arguments = copy.deepcopy(self.settings), list(argument_list.dataset_arguments)
        config = Config("BPR", "ml-100k", config_dict=given)
        assert config["eval_step"] == 2
        assert config["train_neg_sample_args"]["sample_num"] == 1
        assert given == self.settings
        assert argument_list.dataset_arguments == arguments
        assert set(config.parameters["Dataset"]) > set(arguments)  # the data set file's own keys

    def test_do_not_without_the_patch(self, without: Without, monkeypatch: pytest.MonkeyPatch) -> None:
        arguments = list(argument_list.dataset_arguments)
        monkeypatch.setattr(configurator, "dataset_arguments", growing := list(arguments))
        without(Config, "_load_variable_config_dict")
        without(Config, "_init_parameters_category")
        given = copy.deepcopy(self.settings)
        Config("BPR", "ml-100k", config_dict=given)
        assert given["eval_step"] == 2
        assert "sample_num" in given["train_neg_sample_args"]
        assert len(growing) > len(arguments)


class TestUnknownModel:
    @pytest.mark.parametrize(
        ("name", "meant"),
        [("SASRek", "SASRec"), ("sasrec", "SASRec"), ("LightGNC", "LightGCN"), ("pop", "Pop")],
    )
    def test_is_named_with_near_ones(self, name: str, meant: str) -> None:
        with pytest.raises(ValueError, match=f"model '{name}' is unknown: did you mean .*{meant}"):
            Config(name, "ml-100k")

    def test_models_of_the_plugin_are_near_ones_too(self) -> None:
        with pytest.raises(ValueError, match=r"did you mean.* SASRecSCE"):
            Config("SASRecSE", "ml-100k")

    def test_nothing_near_is_no_hint(self) -> None:
        with pytest.raises(ValueError, match=r"model 'Zzyzx' is unknown: RecBole's models are listed"):
            Config("Zzyzx", "ml-100k")

    @pytest.mark.skipif(importlib.util.find_spec("lightgbm") is not None, reason="lightgbm is installed")
    def test_a_model_whose_library_is_missing_is_not_unknown(self) -> None:
        with pytest.raises(ModuleNotFoundError, match="lightgbm"):
            Config("LightGBM", "ml-100k")

    @pytest.mark.parametrize("module", [utils, configurator, quick_start, sys.modules["recbole.utils"]])
    def test_is_asked_for_everywhere(self, module: Any, without: Without) -> None:
        assert module.get_model("SASRec") is SASRec
        with pytest.raises(ValueError, match="did you mean"):
            module.get_model("SASRek")
        without(module, "get_model")
        with pytest.raises((ImportError, ValueError)) as error:
            module.get_model("SASRek")
        assert "did you mean" not in str(error.value)


class TestLogFiles:
    @pytest.fixture(autouse=True)
    def _root_logger(self) -> Iterator[None]:
        root = logging.getLogger()
        handlers, level = root.handlers[:], root.level
        yield
        for handler in set(root.handlers) - set(handlers):
            handler.close()
        root.handlers, root.level = handlers, level

    @staticmethod
    def two_runs() -> tuple[list[str], list[str]]:
        """Log one line in each of two runs; return the log files' contents and the TensorBoard folders."""
        folders = []
        for run in ("first", "second"):
            config = Config("BPR", "ml-100k", config_dict={"seed": run})
            quick_start.init_logger(config)
            logging.getLogger().info(f"the {run} run")
            writer = get_tensorboard(logging.getLogger())
            folders.append(Path(writer.log_dir).name)
            writer.close()
        return [path.read_text() for path in sorted(Path("log/BPR").iterdir(), key=str)], folders

    def test_each_run_has_its_own(self) -> None:
        contents, folders = self.two_runs()
        assert sorted(("first run" in text, "second run" in text) for text in contents) == [
            (False, True),
            (True, False),
        ]
        assert sorted(folders) == sorted(path.stem for path in Path("log/BPR").iterdir())

    def test_both_share_the_first_without_the_patch(self, without: Without) -> None:
        without(quick_start, "init_logger")
        root = logging.getLogger()
        root.handlers = []  # as in a script
        contents, folders = self.two_runs()
        assert sorted(("first run" in text, "second run" in text) for text in contents) == [
            (False, False),
            (True, True),
        ]
        assert len(set(folders)) == 1

    def test_handlers_of_others_stay(self, caplog: pytest.LogCaptureFixture) -> None:
        before = list(logging.getLogger().handlers)
        self.two_runs()
        after = logging.getLogger().handlers
        assert [handler for handler in after if handler in before] == before
        assert len(after) == len(before) + 2  # the second run's file and console
        assert "the second run" in caplog.text

    def test_a_log_file_is_closed_when_the_next_run_begins(self) -> None:
        quick_start.init_logger(Config("BPR", "ml-100k"))
        first = next(h for h in logging.getLogger().handlers if "BPR" in getattr(h, "baseFilename", ""))
        quick_start.init_logger(Config("BPR", "ml-100k", config_dict={"seed": 1}))
        assert first.stream is None


def test_the_logger_is_replaced_everywhere() -> None:
    assert quick_start.init_logger is logger.init_logger is sys.modules["recbole.utils"].init_logger
