"""Recipes: what they set, what wins over them, what auto takes, and where the choice is written down."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from logs import write_log
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.quick_start import load_data_and_model, run_recbole
from recbole.utils import get_model
from torch import nn

from recbole_sce import SettingsError
from recbole_sce.data.dataset import IndexedSequenceDataset
from recbole_sce.model import MODELS, SASRecSCE
from recbole_sce.plugin import base_of
from recbole_sce.settings import KEYS, RECIPES, recipes, settings_of
from recbole_sce.training import SCETrainer
from recbole_sce.training.row_adam import RowAdam

SPARSE, DENSE = recipes.read_recipe("sparse"), recipes.read_recipe("dense")
#: What a variant with recipe plain has otherwise than its base, beside the keys of recbole_sce.
DIFFERENT = {"model", "loss_type", "train_batch_size"}


@pytest.fixture(autouse=True)
def _small_data_may_be_dense(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes, "DENSE_TOTAL", 0)


@pytest.fixture
def config_of(tiny_dataset: dict[str, Any]) -> Any:
    def make(model: str = "SASRecSCE", **settings: Any) -> Config:
        return Config(model, "tiny", config_dict={**tiny_dataset, **settings})

    return make


@pytest.fixture
def chosen(config_of: Any) -> Any:
    """Return ``chosen(**settings)`` -> the configuration once the data are read."""

    def make(model: str = "SASRecSCE", **settings: Any) -> Config:
        config = config_of(model, **settings)
        create_dataset(config)
        return config

    return make


class TestPlain:
    @pytest.mark.parametrize("model", [cls.__name__ for cls in MODELS])
    def test_a_variant_differs_from_its_base_in_the_named_few(
        self, model: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sys.argv", ["pytest"])
        files = {"train_stage": "finetune", "pre_model_path": __file__} if model == "S3RecSCE" else {}
        settings = {"recipe": "plain", "train_neg_sample_args": None, "load_col": None, **files}
        base = base_of(get_model(model)).__name__
        ours, theirs = (Config(name, "no-such-data", config_dict=dict(settings)) for name in (model, base))
        different = {
            key
            for key in {**ours.final_config_dict, **theirs.final_config_dict}
            if key not in KEYS and ours[key] != theirs[key]
        }
        named = {
            "SHANSCE": {"transform"},
            "BERT4RecSCE": {"transform"},
            "FEARecSCE": {"contrast", "tau", "sim"},
        }
        named["SINESCE"] = {"reg_loss_ratio", "MODEL_INPUT_TYPE"}
        # RecBole reads sequential.yaml, and with it order: TO, for all sequential models but these two
        named |= {"GRU4RecKGSCE": {"eval_args"}, "KSRSCE": {"eval_args"}}
        assert different <= DIFFERENT | named.get(model, set())
        assert ours["train_batch_positions"] == theirs["train_batch_size"]  # targets, and rows of one target

    def test_it_has_recboles_training(self, chosen: Any) -> None:
        config = chosen(recipe="plain")
        expected = {"learner": "adam", "weight_decay": 0.0, "hidden_dropout_prob": 0.5, "stopping_step": 10}
        expected |= {"valid_metric": "MRR@10", "ema_decay": None, "target_discount": 0.0}
        assert {key: config[key] for key in expected} == expected
        assert config["recipe"] == "plain"

    def test_it_is_the_default_but_of_sasrec(self, config_of: Any) -> None:
        assert config_of("GRU4RecSCE")["recipe"] == "plain"
        assert config_of("SASRecSCE")["recipe"] == "auto"


class TestAuto:
    @pytest.mark.parametrize(("least", "name"), [(2, "sparse"), (20, "dense")])
    def test_it_takes_sparse_or_dense_by_the_data(
        self, chosen: Any, caplog: pytest.LogCaptureFixture, least: int, name: str
    ) -> None:
        caplog.set_level(logging.INFO)
        config = chosen(user_inter_num_interval=f"[{least},inf)")
        assert config["recipe"] == name
        own = {"epochs": 1, "n_outside": 3}  # which the test sets itself
        content = {**recipes.read_recipe(name), **own}
        assert {key: config[key] for key in content} == content
        (line,) = (message for message in caplog.messages if message.startswith("recipe: "))
        assert line.startswith(f"recipe: {name}, chosen by auto since a user has ")
        assert f"weight_decay {content['weight_decay']}" in line

    @pytest.mark.parametrize("average", [8.9, 19.99, 20.0, 165.5])
    def test_the_threshold_is_twenty(self, config_of: Any, average: float) -> None:
        class Data:
            interactions_per_user = average
            user_num = 7

        config = config_of()
        recipes.choose_recipe(config, Data())
        assert config["recipe"] == ("sparse" if average < 20 else "dense")

    @pytest.mark.parametrize(("users", "name"), [(943, "sparse"), (6040, "dense")])
    def test_small_data_are_trained_as_sparse_ones(
        self, config_of: Any, monkeypatch: pytest.MonkeyPatch, users: int, name: str
    ) -> None:
        class Data:
            interactions_per_user = 106.0
            user_num = users + 1

        monkeypatch.undo()
        config = config_of()
        recipes.choose_recipe(config, Data())
        assert config["recipe"] == name

    def test_until_data_are_read_it_holds_what_both_say(self, config_of: Any) -> None:
        config = config_of()
        both = {key: value for key, value in SPARSE.items() if DENSE[key] == value}
        assert both
        assert {key: config[key] for key in both} == both
        assert config["weight_decay"] == 0.0  # RecBole's

    def test_what_the_data_decide_is_read_after_filtering_and_no_setting_of_files(self) -> None:
        from recbole.utils.argument_list import dataset_arguments

        decided = {key for key in {**SPARSE, **DENSE} if SPARSE.get(key) != DENSE.get(key)}
        assert not decided & set(dataset_arguments) - {"MAX_ITEM_LIST_LENGTH", "train_positions"}
        assert not decided & {"valid_metric", "metrics", "topk", "eval_args", "seed"}

    def test_a_recipe_may_set_what_rows_are_made_by(
        self, config_of: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        contents = {"sparse": {"MAX_ITEM_LIST_LENGTH": 4, "train_positions": "last"}, "dense": {}}
        monkeypatch.setattr(recipes, "read_recipe", contents.__getitem__)
        settings = {"save_dataset": True, "checkpoint_dir": "saved", "train_neg_sample_args": None}
        for _ in range(2):  # the second time the data set is loaded
            config = config_of(**settings)
            del config.external_config_dict["MAX_ITEM_LIST_LENGTH"]
            train, _, _ = data_preparation(config, create_dataset(config))
            assert train.dataset.windows is None
            assert next(iter(train))["item_id_list"].shape[1] == 4

    def test_saved_data_choose_the_same(self, config_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        for _ in range(2):
            config = config_of(save_dataset=True, checkpoint_dir="saved")
            train, _, _ = data_preparation(config, create_dataset(config))
            assert config["recipe"] == "sparse"
            assert dropouts(SASRecSCE(config, train._dataset)) == {0.5}
            monkeypatch.setattr(IndexedSequenceDataset, "__init__", None)  # the second time it is loaded

    def test_a_model_chooses_for_data_that_were_read_under_another_configuration(
        self, config_of: Any
    ) -> None:
        train, _, _ = data_preparation(config_of(), create_dataset(config_of()))
        config = config_of()
        assert dropouts(SASRecSCE(config, train._dataset)) == {0.5}
        assert config["recipe"] == "sparse"


def dropouts(model: nn.Module) -> set[float]:
    return {module.p for module in model.modules() if isinstance(module, nn.Dropout)}


class TestPriority:
    @pytest.mark.parametrize("value", [0.0, 0.01, 0.1])
    def test_what_the_user_sets_wins_whatever_its_value(self, chosen: Any, value: float) -> None:
        assert chosen(weight_decay=value)["weight_decay"] == value
        assert chosen(weight_decay=value, recipe="sparse")["weight_decay"] == value

    def test_files_and_the_command_line_win(
        self, tiny_dataset: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = tmp_path / "mine.yaml"
        file.write_text("weight_decay: 0.02\nstopping_step: 7\n")
        monkeypatch.setattr("sys.argv", ["run.py", "--stopping_step=8", "--recipe=dense"])
        config = Config("SASRecSCE", "tiny", config_file_list=[str(file)], config_dict=tiny_dataset)
        create_dataset(config)
        assert [config[key] for key in ("weight_decay", "stopping_step", "recipe")] == [0.02, 8, "dense"]

    def test_what_is_set_later_wins(self, config_of: Any) -> None:
        config = config_of()
        config["weight_decay"] = 0.03
        create_dataset(config)
        assert config["weight_decay"] == 0.03

    def test_what_is_set_later_is_checked(self, config_of: Any) -> None:
        config = config_of(recipe="plain")
        config["bucket_size_y"] = -1
        with pytest.raises(SettingsError, match=r"bucket_size_y must be .*, got -1"):
            create_dataset(config)

    def test_a_data_sets_property_file_is_below(
        self, config_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = tmp_path / "tiny.yaml"
        file.write_text("stopping_step: 3\nepochs: 4\n")
        monkeypatch.setattr("recbole_sce.data.properties.dataset_properties", lambda name: file)
        config = config_of(recipe="sparse")
        assert config.internal_config_dict["stopping_step"] == 3
        assert config["stopping_step"] == 30

    def test_a_recipe_of_another_model_leaves_out_what_that_has_not(
        self, chosen: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        config = chosen("GRU4RecSCE", recipe="sparse")
        assert config["weight_decay"] == 0.1
        assert config["hidden_dropout_prob"] is None
        assert "hidden_dropout_prob (GRU4RecSCE has no such key)" in caplog.text


class TestGivingWay:
    @pytest.mark.parametrize(
        ("settings", "key", "reason"),
        [
            ({"loss_type": "BCE"}, "target_discount", "target_discount must be 0 with loss_type BCE"),
            ({"complete_softmax": False}, "target_discount", "with complete_softmax False"),
            ({"train_positions": "last"}, "target_discount", "with train_positions last"),
            ({"learner": "adam"}, "weight_decay", "learner adam would add it to the gradient"),
        ],
    )
    @pytest.mark.parametrize("recipe", ["sparse", "auto"])
    def test_a_value_that_a_setting_makes_impossible(
        self,
        chosen: Any,
        caplog: pytest.LogCaptureFixture,
        recipe: str,
        settings: dict[str, Any],
        key: str,
        reason: str,
    ) -> None:
        caplog.set_level(logging.INFO)
        assert chosen(recipe=recipe, **settings)[key] == 0.0
        assert f"left out: {key} (" in caplog.text
        assert reason in caplog.text

    def test_a_batch_is_bounded_by_what_the_user_sets(self, chosen: Any) -> None:
        assert chosen(recipe="sparse")["train_batch_positions"] == 1024
        assert chosen(recipe="sparse", train_batch_size=7)["train_batch_positions"] is None
        both = chosen(recipe="sparse", train_batch_size=7, train_batch_positions=9)
        assert both["train_batch_positions"] == 9

    def test_it_is_never_the_users(self, config_of: Any) -> None:
        with pytest.raises(SettingsError, match=r"target_discount must be 0 with loss_type BCE, got 0\.4"):
            config_of(recipe="sparse", loss_type="BCE", target_discount=0.4)

    @pytest.mark.parametrize(
        ("settings", "optimizer", "decay"),
        [
            ({}, torch.optim.AdamW, 0.1),
            ({"learner": "adam"}, torch.optim.Adam, 0.0),
            ({"sparse_item_updates": True}, RowAdam, 0.1),
        ],
    )
    def test_training_decays_by_what_holds(
        self, config_of: Any, settings: dict[str, Any], optimizer: type, decay: float
    ) -> None:
        config = config_of(**settings)
        train, _, _ = data_preparation(config, create_dataset(config))
        model = SASRecSCE(config, train._dataset)
        trainer = SCETrainer(config, model)
        assert type(trainer.optimizer) is optimizer
        layer = model.position_embedding.weight  # decays alone: its gradient is 0
        before = layer.detach().clone()
        layer.grad = torch.zeros_like(layer)
        trainer.optimizer.step()
        assert torch.allclose(layer, before * (1 - config["learning_rate"] * decay), rtol=1e-6, atol=0)


class TestOwnFile:
    def write(self, **content: Any) -> str:
        Path("mine.yaml").write_text(yaml.safe_dump(content))
        return "mine.yaml"

    def test_its_values_are_put_under_the_users(self, chosen: Any) -> None:
        path = self.write(learning_rate=0.01, n_layers=1, stopping_step=4.0)
        config = chosen(recipe=path, n_layers=2)
        assert [config[key] for key in ("learning_rate", "n_layers", "stopping_step")] == [0.01, 2, 4]
        assert type(config["stopping_step"]) is int
        assert config["recipe"] == path
        assert config["weight_decay"] == 0.0

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (
                {"weight_decai": 0.1},
                "recipe mine.yaml must hold keys that exist, got 'weight_decai': did you",
            ),
            ({"recipe": "dense"}, "recipe mine.yaml must not set recipe, got 'dense'"),
            ({"model": "SASRec"}, "recipe mine.yaml must not set model"),
            ({"ema_decay": 7}, "ema_decay must be a number above 0 and below 1, or null, got 7"),
            (
                {"loss_type": "BCE", "target_discount": 0.4},
                "recipe mine.yaml contradicts itself: target_discount must be 0 with loss_type BCE",
            ),
            ({}, "recipe must be the path of a YAML file of lines key: value, got 'empty.yaml'"),
        ],
    )
    def test_content_that_is_no_recipe_is_refused(
        self, config_of: Any, content: dict[str, Any], message: str
    ) -> None:
        path = self.write(**content) if content else "empty.yaml"
        if not content:
            Path(path).write_text("# nothing\n")
        with pytest.raises(ValueError, match=message):
            config_of(recipe=path)

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("spares", "got 'spares': did you mean sparse"),
            ("none.yaml", "got 'none.yaml': there is no such file"),
        ],
    )
    def test_a_name_that_is_none_is_refused(self, config_of: Any, name: str, message: str) -> None:
        with pytest.raises(SettingsError, match=f"recipe must be auto, plain, .*{message}"):
            config_of(recipe=name)


class TestRecords:
    def test_a_checkpoint_keeps_the_choice(
        self, tiny_dataset: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run_recbole("SASRecSCE", "tiny", config_dict=tiny_dataset)
        monkeypatch.setattr(recipes, "DENSE_FROM", 2)  # another version chooses otherwise
        monkeypatch.setattr(recipes, "read_recipe", lambda name: {"hidden_dropout_prob": 0.9})
        (best,) = (path for path in Path("saved").glob("*.pth") if not path.stem.endswith("-last"))
        config, model, *_ = load_data_and_model(str(best))
        assert config["recipe"] == "sparse"
        assert config["hidden_dropout_prob"] == 0.5
        assert dropouts(model) == {0.5}

    def test_a_checkpoint_from_before_recipes_has_defaults_for_its_nulls(self, config_of: Any) -> None:
        config = Config.__new__(Config)  # as a checkpoint is read
        vars(config).update(vars(config_of(recipe="plain")))
        del vars(config)["_recipe_is_open"]
        kept = {"bucket_size_y": None, "n_outside": None, "target_discount": 0.4}
        config.final_config_dict = {**config.final_config_dict, **kept}
        del config.final_config_dict["recipe"]
        settings = settings_of(config)
        assert (settings.bucket_size_y, settings.n_outside, settings.target_discount) == (256, 2048, 0.4)
        assert recipes.recipe_of(config) is None

    def test_a_model_that_extends_another_reads_what_was_chosen(self, config_of: Any) -> None:
        class WithHead(SASRecSCE):
            def __init__(self, config: Any, dataset: Any) -> None:
                super().__init__(config, dataset)
                self.head = nn.Dropout(config["hidden_dropout_prob"])

        config = config_of()
        train, _, _ = data_preparation(config, create_dataset(config))
        assert WithHead(config, train._dataset).head.p == 0.5

    def test_every_recipe_has_a_file_of_known_keys(self, config_of: Any) -> None:
        known = recipes.known_keys(config_of())
        assert all(set(recipes.read_recipe(name)) <= known for name in RECIPES)
        assert DENSE.keys() == SPARSE.keys() | {"n_outside"}  # larger catalogues have its default


@pytest.mark.slow
def test_auto_on_a_dense_and_a_sparse_log(tiny_dataset: dict[str, Any], tmp_path: Path) -> None:
    write_log(tmp_path / "data", "dense", min_length=20)
    write_log(tmp_path / "data", "sparse", min_length=4)
    for name in ("dense", "sparse"):
        result = run_recbole("SASRecSCE", name, config_dict={**tiny_dataset, "checkpoint_dir": name})
        assert "ndcg@10" in result["test_result"]
        (best,) = (path for path in Path(name).glob("*.pth") if not path.stem.endswith("-last"))
        assert load_data_and_model(str(best))[0]["recipe"] == name
