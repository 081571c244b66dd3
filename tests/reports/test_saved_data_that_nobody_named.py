"""A damaged file of saved data, or one of another model, ends plain runs that never asked for saved data."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import kinds
import pytest
from logs import write_shop
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.data.utils import load_split_dataloaders

from recbole_sce.compat import SavedDataError, safe_load, save_checkpoint

DATASET, LOADERS = "shop-IndexedSequenceDataset.pth", "shop-for-SASRecSCE-dataloader.pth"


@pytest.fixture(autouse=True)
def _shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_shop(tmp_path / "data", "shop")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["pytest"])


def config_of(model: str = "SASRecSCE", **settings: Any) -> Config:
    given = {**kinds.settings_of("sequences", "data"), **kinds.CE, **settings}
    return Config(model, "shop", config_dict=given)


def save(model: str = "SASRecSCE", **settings: Any) -> None:
    config = config_of(model, save_dataset=True, save_dataloaders=True, **settings)
    data_preparation(config, create_dataset(config))


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "folder":
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes({"cut": content[: len(content) // 2], "empty": b"", "text": b"no data"}[how])


@pytest.mark.parametrize("how", ["cut", "empty", "text", "folder"])
@pytest.mark.parametrize("name", [DATASET, LOADERS])
class TestDamage:
    def test_is_warned_of_and_the_data_made_anew(
        self, name: str, how: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        save()
        damage(Path("saved", name), how)
        config = config_of()
        train, _, _ = data_preparation(config, create_dataset(config))
        assert len(train.dataset.inter_feat) > 50
        (warning,) = (record for record in caplog.records if record.levelno == logging.WARNING)
        assert name in warning.message
        assert "made anew" in warning.message

    def test_of_a_named_file_is_an_error(self, name: str, how: str) -> None:
        save()
        path = Path("saved", name).rename(name)
        damage(path, how)
        key = "dataset_save_path" if name == DATASET else "dataloaders_save_path"
        config = config_of(**{key: name})
        with pytest.raises(SavedDataError, match=f"{key} must be .* got '{name}'"):
            data_preparation(config, create_dataset(config))


def test_of_a_model_that_this_process_does_not_know(caplog: pytest.LogCaptureFixture) -> None:
    save()
    path = Path("saved", DATASET)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"recbole_sce.model.sasrec", b"a_module_of_somebody.els"))
    assert path.read_bytes() != content
    assert len(create_dataset(config_of()).inter_feat) > 50
    assert "it names a_module_of_somebody.els.SASRecSCE" in caplog.text


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("dataset_save_path", value) for value in ("nowhere.pth", ".", "", 3, True, ["x"])),
        *(("dataloaders_save_path", value) for value in ("nowhere.pth", ".", "", 3, True, ["x"])),
    ],
)
def test_a_named_file_that_does_not_exist_is_an_error(key: str, value: Any) -> None:
    config = config_of(**{key: value})
    with pytest.raises(SavedDataError, match=f"{key} must be the path of an existing file or null, got "):
        data_preparation(config, create_dataset(config))


@pytest.mark.parametrize(
    ("model", "settings", "reason"),
    [
        ("SASRec", {}, "its class is SequentialDataset, and SASRecSCE needs IndexedSequenceDataset"),
        ("SASRecSCE", {"MAX_ITEM_LIST_LENGTH": 5}, "it was made with other values of MAX_ITEM_LIST_LENGTH"),
        ("SASRecSCE", {"train_positions": "last"}, "it was made with other values of train_positions"),
        ("SASRecSCE", {"seed": 5}, "it was made with other values of seed"),
    ],
)
def test_a_named_data_set_of_another_run_is_an_error(model: str, settings: Any, reason: str) -> None:
    save(model, **settings)
    (path,) = Path("saved").glob("shop-*Dataset.pth")
    with pytest.raises(
        SavedDataError, match=f"dataset_save_path must be a file that fits this run.*{reason}"
    ):
        create_dataset(config_of(dataset_save_path=str(path)))


def test_named_loaders_of_another_kind_are_an_error() -> None:
    save("SASRec")
    config = config_of(dataloaders_save_path="saved/shop-for-SASRec-dataloader.pth")
    with pytest.raises(SavedDataError, match="are of another kind than those of SASRecSCE"):
        load_split_dataloaders(config)


def test_named_files_that_fit_are_used(caplog: pytest.LogCaptureFixture) -> None:
    save()
    Path("saved").rename("elsewhere")
    caplog.set_level(logging.INFO)
    config = config_of(dataset_save_path=f"elsewhere/{DATASET}", dataloaders_save_path=f"elsewhere/{LOADERS}")
    data_preparation(config, create_dataset(config))
    assert caplog.text.count("[elsewhere/") == 2


def test_a_checkpoint_outlives_the_files_that_its_run_named(caplog: pytest.LogCaptureFixture) -> None:
    config = config_of(dataset_save_path="gone.pth", dataloaders_save_path="gone, too.pth")
    save_checkpoint({"config": config, "state_dict": {}}, "model.pth")
    config = safe_load("model.pth")["config"]
    assert config["dataset_save_path"] is config["dataloaders_save_path"] is None
    assert "gone.pth" in caplog.text
    data_preparation(config, create_dataset(config))
