"""The plugin as RecBole sees it: what is found, what is read, in which order, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import factory
import pytest
import torch
from recbole.config import Config
from recbole.data import create_dataset
from recbole.model.sequential_recommender import SASRec
from recbole.utils import get_model, get_trainer

import recbole_sce
from recbole_sce import BERT4RecSCE, SASRecSCE, SCEMixin, SettingsError, plugin, register_model
from recbole_sce.data.dataset import IndexedSequenceDataset
from recbole_sce.training import SCETrainer


def test_recbole_finds_the_model_its_trainer_and_its_data_set(tiny_dataset: dict[str, object]) -> None:
    assert get_model("SASRecSCE") is SASRecSCE
    config = Config("SASRecSCE", "tiny", config_dict=tiny_dataset)
    assert get_trainer(config["MODEL_TYPE"], "SASRecSCE") is SCETrainer
    assert type(create_dataset(config)) is IndexedSequenceDataset


def test_registering_twice_changes_nothing() -> None:
    before = Config.__init__, Config._update_internal_config_dict
    plugin.register()
    assert (Config.__init__, Config._update_internal_config_dict) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    "imports",
    [
        "import recbole_sce; from recbole.quick_start import run_recbole; from recbole.config import Config",
        "from recbole.quick_start import run_recbole; from recbole.config import Config; import recbole_sce",
        pytest.param(
            "import recbole; import recbole_sce; from recbole.config import Config", marks=pytest.mark.nightly
        ),
    ],
)
def test_any_import_order_registers(imports: str, tmp_path: Path) -> None:
    code = imports + "\nimport sys; print({'torch._dynamo', 'torch._inductor'} & set(sys.modules), end=' ')"
    code += "\nprint(Config('SASRecSCE', 'ml-100k')['bucket_alpha'])"
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    if "from recbole.quick_start" in imports.split(";")[0] and "No module named 'ray'" in run.stderr:
        pytest.skip("without ray RecBole itself cannot be imported before recbole_sce")
    assert run.stdout.strip() == "set() 2.0", run.stderr  # a compiler alone would take seconds


class TestPropertyFiles:
    def test_a_model_reads_its_bases_file_and_the_losss(self, tiny_dataset: dict[str, object]) -> None:
        config = Config("SASRecSCE", "tiny", config_dict=tiny_dataset)
        assert config["n_layers"] == 2  # RecBole's SASRec.yaml
        assert config["loss_type"] == "SCE"  # SCE.yaml over SASRec.yaml's CE
        assert config["train_neg_sample_args"]["distribution"] == "none"
        assert config["train_positions"] == "all"

    def test_a_model_reads_the_file_of_the_one_it_extends(self, tiny_dataset: dict[str, object]) -> None:
        class ExtendedSCE(BERT4RecSCE):
            pass

        config = Config(ExtendedSCE, "tiny", config_dict=tiny_dataset)
        assert config["transform"] is None  # BERT4RecSCE.yaml over BERT4Rec.yaml's mask_itemseq

    def test_a_built_in_model_keeps_its_own(self, tiny_dataset: dict[str, object]) -> None:
        config = Config("SASRec", "tiny", config_dict={**tiny_dataset, "train_neg_sample_args": None})
        assert config["loss_type"] == "CE"
        assert config["bucket_alpha"] is None
        assert config["train_batch_size"] == 2048

    @pytest.mark.parametrize("model", ["SASRecSCE", "SASRec"])
    def test_the_data_sets_file_serves_every_model(self, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sys.argv", ["pytest"])
        config = Config(model, "ml-1m", config_dict={"train_neg_sample_args": None})
        assert "timestamp" in config["load_col"]["inter"]

    def test_precedence_is_recboles(
        self, tiny_dataset: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
        one.write_text("gbce_t: 0.11\nn_buckets: 11\nbucket_alpha: 11.0\nn_negatives: 11\n")
        two.write_text("n_buckets: 12\nbucket_alpha: 12.0\nn_negatives: 12\n")
        monkeypatch.setattr("sys.argv", ["pytest", "--n_negatives=14"])
        config = Config(
            "SASRecSCE",
            "tiny",
            config_file_list=[str(one), str(two)],
            config_dict={**tiny_dataset, "bucket_alpha": 13.0, "n_negatives": 13},
        )
        values = [config[key] for key in ("gbce_t", "n_buckets", "bucket_alpha", "n_negatives")]
        assert values == [0.11, 12, 13.0, 14]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("bucket_size_y", -1),
        ("n_buckets", "many"),
        ("train_positions", "middle"),
        ("loss_type", "FOO"),
        ("train_neg_sample_args", {"distribution": "uniform", "sample_num": 1}),
    ],
)
def test_impossible_settings_fail_before_data_is_read(key: str, value: object) -> None:
    with pytest.raises(SettingsError, match=key):
        Config("SASRecSCE", "no-such-data", config_dict={key: value})


class TestOwnModels:
    def test_a_users_own_model_gets_the_same_treatment(
        self, tiny_dataset: dict[str, object], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        @register_model
        class TinyOwnSCE(SCEMixin, SASRec):
            causal = True

        try:
            assert get_model("TinyOwnSCE") is TinyOwnSCE
            config = Config("TinyOwnSCE", "tiny", config_dict=tiny_dataset)
            assert config["loss_type"] == "SCE"
            assert config["n_layers"] == 2
            assert type(create_dataset(config)) is IndexedSequenceDataset
            assert get_trainer(config["MODEL_TYPE"], "TinyOwnSCE") is SCETrainer
            assert register_model(TinyOwnSCE) is TinyOwnSCE  # again, as a notebook cell would
        finally:
            plugin._models.pop("TinyOwnSCE", None)
            sys.modules.pop("recbole.model.sequential_recommender.tinyownsce", None)

    def test_a_class_without_the_mixin_is_refused(self) -> None:
        with pytest.raises(TypeError, match=r"SASRec cannot be registered: recbole_sce\.SCEMixin"):
            register_model(SASRec)

    def test_a_class_without_a_recommender_is_refused(self) -> None:
        class Bare(SCEMixin):
            pass

        with pytest.raises(TypeError, match="Bare cannot be registered: no sequential recommender"):
            register_model(Bare)

    def test_the_mixin_must_come_first(self) -> None:
        class Late(SASRec, SCEMixin):
            pass

        with pytest.raises(TypeError, match="SCEMixin must come before"):
            register_model(Late)

    def test_a_name_of_recbole_is_refused(self) -> None:
        taken = type("SASRec", (SCEMixin, SASRec), {})
        with pytest.raises(ValueError, match="SASRec cannot be registered: RecBole has a model of that name"):
            register_model(taken)

    def test_a_name_of_another_class_is_refused(self) -> None:
        other = type("SASRecSCE", (SCEMixin, SASRec), {"__module__": "elsewhere"})
        with pytest.raises(ValueError, match=r"recbole_sce\.model\.sasrec\.SASRecSCE has that name"):
            register_model(other)


def test_everything_announced_is_there() -> None:
    assert all(hasattr(recbole_sce, name) for name in recbole_sce.__all__)


def test_the_losses_need_no_recbole(tmp_path: Path) -> None:
    code = (
        "import sys, importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'recbole' else find(name, *a)\n"
        "import recbole_sce; recbole_sce.ScalableCrossEntropyLoss\n"
        "assert not any(m.split('.')[0] == 'recbole' for m in sys.modules)\n"
        "try:\n    recbole_sce.SASRecSCE\nexcept AttributeError as error:\n    print(error)"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert "recbole_sce.SASRecSCE needs RecBole" in run.stdout, run.stderr


class TestLargeCatalogueHooks:
    """What RecBole calls by name reaches the plugin for its models, and RecBole for all others."""

    def test_counting_operations_copies_no_parameter(
        self, prepared_model: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from recbole.data.transform import construct_transform
        from recbole.quick_start import quick_start

        config, model, test = prepared_model("SASRecSCE")
        # a second table would be a second tensor of its size
        copied: list[torch.Tensor] = []
        deepcopy = torch.Tensor.__deepcopy__
        monkeypatch.setattr(
            torch.Tensor, "__deepcopy__", lambda self, memo: copied.append(self) or deepcopy(self, memo)
        )
        arguments = (test.dataset, config["device"], None, construct_transform(config))
        operations = quick_start.get_flops(model, *arguments)
        assert operations > 0
        assert not [tensor for tensor in copied if tensor.shape == model.item_embedding.weight.shape]
        assert quick_start.get_flops.__wrapped__(model, *arguments) == operations

    @pytest.mark.parametrize("model_name", ["SASRecSCE", "SASRec"])
    def test_recommendations_are_recboles(self, prepared_model: Any, model_name: str) -> None:
        from recbole.utils.case_study import full_sort_scores, full_sort_topk

        _, model, test = prepared_model(model_name)
        users = [3, 1, 7]
        # RecBole's mask of (users, rows) gives rows in the order of the users, as ours does
        torch.testing.assert_close(
            full_sort_scores(users, model, test), full_sort_scores.__wrapped__(users, model, test)
        )
        scores, items = full_sort_topk(users, model, test, 5)
        expected_scores, expected_items = full_sort_topk.__wrapped__(users, model, test, 5)
        torch.testing.assert_close(scores, expected_scores)
        assert torch.equal(items, expected_items)

    def test_absent_users_are_named(self, prepared_model: Any) -> None:
        from recbole.utils.case_study import full_sort_topk

        _, model, test = prepared_model("SASRecSCE")
        with pytest.raises(ValueError, match=r"uid_series: 1 of 2 users have no row"):
            full_sort_topk([1, 5000], model, test, 5)


@pytest.fixture
def prepared_model(tiny_dataset: dict[str, object]) -> Any:
    def prepare(name: str) -> tuple[Any, Any, Any]:
        made = factory.prepare(name, "tiny", {**tiny_dataset, "train_neg_sample_args": None})
        return made.config, made.model.eval(), made.test

    return prepare
