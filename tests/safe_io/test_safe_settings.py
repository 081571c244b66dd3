"""Settings, search spaces and files that settings name are data: nothing in them is run."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import malice
import numpy as np
import pytest
import yaml
from recbole.config import Config, configurator
from recbole.data import create_dataset, data_preparation
from recbole.model.context_aware_recommender import kd_dagfm
from recbole.model.general_recommender import convncf, ldiffrec, nais, neumf, ract
from recbole.quick_start import load_data_and_model
from recbole.trainer import HyperTuning, Trainer, hyper_tuning
from recbole.utils import EvaluatorType, InputType, ModelType, get_model

from recbole_sce import SASRecSCE
from recbole_sce.compat import CheckpointError, safe_load
from recbole_sce.inference.recommender import Recommender
from safe_io.test_literals import CODE, TEXTS, VALUES

Tiny = dict[str, Any]


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Name the folder that exists once code in a setting or file has run."""
    return tmp_path / "made"


def converted(text: str) -> Any:
    return Config._convert_config_dict(None, {"colour": text})["colour"]


class TestSettings:
    """``Config._convert_config_dict`` gives what it gave, and evaluates nothing."""

    #: What RecBole makes of these is a matter of its local variables, or it breaks down, or never ends.
    RECBOLE_FAILS = ("1/0", "2.0**10000", "9**9**9", "10**10**10", "[0]*10**9", "'a'*10**9", "\x00")
    #: Expressions beyond plain values and arithmetic, which stay text now.
    TEXT_NOW = ("1 if True else 2", "not True", "[1][0]", "f'{1}'", "{**{}}", "[1]+[2]", "'%s' % 1")

    @pytest.mark.parametrize("text", [*VALUES, *TEXTS], ids=lambda text: repr(text[:20]))
    def test_as_recbole_does(self, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
        ours = converted(text)
        if text in self.TEXT_NOW or text in self.RECBOLE_FAILS or len(text) > 1000:
            assert ours == text
            return
        monkeypatch.delattr(configurator, "eval")
        theirs = converted(text)
        assert type(ours) is type(theirs)
        assert ours == theirs

    @pytest.mark.parametrize("text", ["ModelType.GENERAL", "InputType.PAIRWISE", "EvaluatorType.RANKING"])
    def test_enums(self, text: str) -> None:
        assert converted(text) is eval(
            text, {"ModelType": ModelType, "InputType": InputType, "EvaluatorType": EvaluatorType}
        )

    @pytest.mark.parametrize("text", ["key", "config_dict", "general_arguments", "__name__", "sys.argv"])
    def test_names_of_recboles_own_variables_are_text(
        self, text: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert converted(text) == text
        monkeypatch.delattr(configurator, "eval")
        monkeypatch.setattr(configurator, "__name__", "another")
        assert converted(text) != text

    @pytest.mark.parametrize("text", CODE)
    @pytest.mark.parametrize("way", ["command line", "dict"])
    def test_code_is_text(
        self,
        text: str,
        way: str,
        made: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        text = text.format(path=str(made)).replace("a=1", "")
        monkeypatch.setattr("sys.argv", ["x", *([f"--colour={text}"] if way == "command line" else [])])
        config = Config("BPR", "ml-100k", config_dict={"colour": text} if way == "dict" else None)
        assert config["colour"] == text
        assert f"the setting {text!r} is taken as text" in caplog.text
        assert not made.exists()

    def test_would_have_run(self, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delattr(configurator, "eval")
        converted(CODE[0].format(path=str(made)))
        assert made.exists()


class TestYaml:
    @pytest.mark.parametrize(
        "value",
        [
            "!!python/object/apply:os.mkdir [{path}]",
            "!!python/object/new:os.mkdir [{path}]",
            "!!python/name:os.mkdir",
            "!!python/module:os",
            "!!python/object:recbole.config.Config {{}}",
            "[1, !!python/name:builtins.eval ]",
        ],
    )
    def test_objects_are_refused(self, value: str, made: Path) -> None:
        Path("evil.yaml").write_text(f"colour: {value.format(path=made)}\n")
        with pytest.raises(ValueError, match=r"evil\.yaml is not YAML of plain values.*python/"):
            Config("BPR", "ml-100k", config_file_list=["evil.yaml"])
        assert not made.exists()

    def test_recbole_alone_takes_a_function(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(configurator, "yaml", yaml)
        Path("evil.yaml").write_text("colour: !!python/name:os.mkdir\n")
        assert Config("BPR", "ml-100k", config_file_list=["evil.yaml"])["colour"] is os.mkdir

    def test_plain_values_are_read_as_ever(self, monkeypatch: pytest.MonkeyPatch) -> None:
        text = "a: 1e-3\nb: !!python/tuple [1, 2]\nc: [x, ~, yes]\nd: {e: 2020-01-01}\nf: [0,inf)\n"
        Path("one.yaml").write_text(text.replace("f: [0,inf)", "f: '[0,inf)'"))
        Path("two.yaml").write_text("a: 2.\n")
        files = ["one.yaml", "two.yaml"]
        ours = Config("BPR", "ml-100k", config_file_list=files)
        assert (ours["a"], ours["b"], ours["c"]) == (2.0, (1, 2), ["x", None, True])
        monkeypatch.setattr(configurator, "yaml", yaml)
        assert Config("BPR", "ml-100k", config_file_list=files).final_config_dict == ours.final_config_dict

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.argv", ["pytest"])


class TestSearchSpaces:
    @pytest.fixture(autouse=True)
    def _hyperopt(self) -> None:
        pytest.importorskip("hyperopt", reason="tuning needs the extra recbole_sce[hyperopt]")

    def test_choices(self, tmp_path: Path) -> None:
        (tmp_path / "my.hyper").write_text("size choice [64, 2*64]\nlayers choice ['[64,32]','[]']\n")
        space = HyperTuning(lambda *_: None, params_file=str(tmp_path / "my.hyper"), algo="random").space
        options = {name: [arg.obj for arg in node.pos_args[1:]] for name, node in space.items()}
        assert options == {"size": [64, 128], "layers": ["[64,32]", "[]"]}

    @pytest.mark.parametrize("text", [code for code in CODE if "for" not in code and "lambda" not in code])
    def test_code_is_refused(self, text: str, made: Path, tmp_path: Path) -> None:
        (tmp_path / "evil.hyper").write_text(f"size choice {text.format(path=str(made))}\n")
        with pytest.raises(ValueError, match="is no plain value"):
            HyperTuning(lambda *_: None, params_file=str(tmp_path / "evil.hyper"), algo="random")
        assert not made.exists()

    def test_would_have_run(self, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "evil.hyper").write_text(f"size choice {CODE[1].format(path=str(made))}\n")
        monkeypatch.delattr(hyper_tuning, "eval")
        HyperTuning(lambda *_: None, params_file=str(tmp_path / "evil.hyper"), algo="random")
        assert made.exists()


def _trainer(tiny_dataset: Tiny) -> tuple[Any, Any]:
    config = Config("SASRecSCE", "tiny", config_dict=tiny_dataset)
    train_data, _, test_data = data_preparation(config, create_dataset(config))
    return Trainer(config, SASRecSCE(config, train_data.dataset)), test_data


def _evaluate(path: str, tiny_dataset: Tiny) -> None:
    trainer, test_data = _trainer(tiny_dataset)
    trainer.evaluate(test_data, model_file=path)


def _pretrained(model: str, **settings: Any) -> Callable[[str, Tiny], None]:
    def load(path: str, tiny_dataset: Tiny) -> None:
        given = {key: path if value == "PATH" else value for key, value in settings.items()}
        config = Config(model, "tiny", config_dict={**tiny_dataset, "train_neg_sample_args": None, **given})
        dataset = create_dataset(config)
        get_model(model)(config, data_preparation(config, dataset)[0].dataset)

    return load


NEGATIVES = {
    "train_neg_sample_args": {
        "distribution": "uniform",
        "sample_num": 1,
        "alpha": 1.0,
        "dynamic": False,
        "candidate_num": 0,
    }
}
WITH_CLASSES = {
    "load_col": {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "class"]},
    "item_attribute": "class",
}
#: All ways by which RecBole and recbole_sce come to read a checkpoint.
READERS: dict[str, Callable[[str, Tiny], Any]] = {
    "safe_load": lambda path, tiny: safe_load(path),
    "load_data_and_model": lambda path, tiny: load_data_and_model(path),
    "Recommender": lambda path, tiny: Recommender.load(path),
    "Trainer.evaluate": _evaluate,
    "Trainer.resume_checkpoint": lambda path, tiny: _trainer(tiny)[0].resume_checkpoint(path),
    "S3Rec": _pretrained("S3Rec", train_stage="finetune", pre_model_path="PATH", **WITH_CLASSES),
    "S3RecSCE": _pretrained("S3RecSCE", pre_model_path="PATH", **WITH_CLASSES),
    "NeuMF": _pretrained(
        "NeuMF", use_pretrain=True, mf_pretrain_path="PATH", mlp_pretrain_path="PATH", **NEGATIVES
    ),
    "NAIS": _pretrained("NAIS", pretrain_path="PATH", **NEGATIVES),
    "ConvNCF": _pretrained("ConvNCF", train_method="after_pretrain", pre_model_path="PATH", **NEGATIVES),
    "RaCT": _pretrained("RaCT", train_stage="finetune", pre_model_path="PATH"),
    "KD_DAGFM": _pretrained("KD_DAGFM", phase="distillation", warm_up="PATH", **NEGATIVES),
}


class TestNamedFiles:
    @pytest.mark.parametrize("reader", READERS)
    @pytest.mark.parametrize("wrap", malice.TORCH_FILES)
    def test_a_checkpoint_that_orders_something(
        self, reader: str, wrap: str, tiny_dataset: Tiny, made: Path
    ) -> None:
        items = "".join(f"i{item}\tc{item % 3}\n" for item in range(40))
        Path("data/tiny/tiny.item").write_text(f"item_id:token\tclass:token_seq\n{items}")
        for number, (kind, payload) in enumerate(malice.OPCODES.items()):
            if number and reader != "safe_load":
                break  # one reader for all: each opcode once
            Path("evil.pth").write_bytes(malice.TORCH_FILES[wrap](payload(made)))
            with pytest.raises(CheckpointError, match=r"evil\.pth"):
                READERS[reader]("evil.pth", tiny_dataset)
            assert not made.exists(), kind

    @pytest.mark.parametrize("wrap", malice.TORCH_FILES)
    def test_would_have_run(self, wrap: str, made: Path) -> None:
        import torch

        path = made.with_name("evil.pth")
        path.write_bytes(malice.TORCH_FILES[wrap](malice.OPCODES["os.system, protocol 2"](made)))
        with suppress(Exception):  # the order has been carried out before torch misses something
            torch.load(path, weights_only=False)
        assert made.exists()

    @pytest.mark.parametrize("module", [convncf, kd_dagfm, nais, neumf, ract])
    def test_pretrained_models_are_read_by_the_safe_reader(self, module: Any) -> None:
        assert module.torch.load is safe_load

    def test_an_array_of_objects(self, tmp_path: Path, made: Path) -> None:
        evil = np.array([malice.Call(os.mkdir, str(made))], dtype=object)
        np.save(tmp_path / "item_emb.npy", evil, allow_pickle=True)
        with pytest.raises(ValueError, match="allow_pickle=False"):
            ldiffrec.np.load(str(tmp_path / "item_emb.npy"), allow_pickle=True)
        assert not made.exists()
        np.load(tmp_path / "item_emb.npy", allow_pickle=True)
        assert made.exists()

    def test_an_array_of_numbers(self, tmp_path: Path) -> None:
        np.save(tmp_path / "item_emb.npy", np.arange(3.0))
        read = ldiffrec.np.load(str(tmp_path / "item_emb.npy"), allow_pickle=True)
        assert read.tolist() == [0, 1, 2]

    def test_the_teacher_of_kd_dagfm(self, tiny_dataset: Tiny, made: Path) -> None:
        code = f"__import__('os').mkdir({str(made)!r}) or CrossNet"
        with pytest.raises(ValueError, match=r"teacher must be one of CIN, CrossNet, DAGFM, got "):
            _pretrained("KD_DAGFM", teacher=code, **NEGATIVES)("", tiny_dataset)
        assert not made.exists()
        _pretrained("KD_DAGFM", teacher="CrossNet", **NEGATIVES)("", tiny_dataset)
