"""The property files that are installed: every one is valid, and serves the data set that it describes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import recbole
import yaml
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils.argument_list import dataset_arguments

import recbole_sce
from recbole_sce.data.properties import dataset_properties, property_file_names
from recbole_sce.model import MODELS
from recbole_sce.utils.properties import properties_folder

PROPERTIES = Path(str(properties_folder()))
DATASETS = sorted(path for path in PROPERTIES.glob("dataset/*.yaml") if path.stem != "_aliases")
ALIASES: dict[str, list[str]] = yaml.safe_load((PROPERTIES / "dataset" / "_aliases.yaml").read_text())
RECBOLE = Path(recbole.__file__).parent / "properties"
FAMILIES = {"amazon-reviews"}  # files that serve others and are no data set of that name themselves


def load(path: Path) -> dict[str, Any]:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content


def documented_columns(path: Path) -> dict[str, str]:
    """Return column -> type as the comment on top of a data set's file documents them."""
    text = re.sub(r"\n#   ", " ", path.read_text(encoding="utf-8"))
    line = next(line for line in text.splitlines() if line.startswith("# Columns: "))
    return dict(re.findall(r"(\w+):(token|float)\b", line))


def write_documented_log(path: Path, folder: Path, name: str) -> None:
    """Write a data set with exactly the documented columns: 24 users, each with the same 24 items."""
    properties, columns = load(path), documented_columns(path)
    rows = ["\t".join(f"{column}:{kind}" for column, kind in columns.items())]
    for user in range(24):
        for step in range(24):
            value = {column: "1" for column in columns}  # ratings, counts, labels
            value[properties["USER_ID_FIELD"]] = f"u{user}"
            value[properties["ITEM_ID_FIELD"]] = f"i{(user + step) % 24}"
            value[properties["TIME_FIELD"]] = str(1000 - step)  # the file runs backwards in time
            rows.append("\t".join(value[column] for column in columns))
    target = folder / name / f"{name}.inter"
    target.parent.mkdir(parents=True)
    target.write_text("\n".join(rows) + "\n", encoding="utf-8")


@pytest.mark.parametrize("path", DATASETS, ids=lambda path: path.stem)
class TestDatasetFiles:
    def test_its_keys_are_recboles(self, path: Path) -> None:
        assert set(load(path)) <= set(dataset_arguments)

    def test_what_a_sequence_needs_is_documented_and_loaded(self, path: Path) -> None:
        properties, columns = load(path), documented_columns(path)
        loaded = properties["load_col"]["inter"]
        user, item, time = (properties[key] for key in ("USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD"))
        assert {user, item, time} <= set(loaded) <= set(columns)
        assert [columns[field] for field in (user, item, time)] == ["token", "token", "float"]
        if "RATING_FIELD" in properties:
            assert columns[properties["RATING_FIELD"]] == "float"

    def test_it_says_what_it_filters(self, path: Path) -> None:
        properties = load(path)
        assert re.search(r"^# Filter: \w", path.read_text(encoding="utf-8"), re.MULTILINE)
        for key in ("user_inter_num_interval", "item_inter_num_interval"):
            assert re.fullmatch(r"\[\d+,inf\)", properties[key])

    def test_a_built_in_model_runs_on_what_it_describes(
        self, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        name = path.stem if path.stem not in ALIASES else ALIASES[path.stem][0]
        write_documented_log(path, tmp_path, name)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.argv", ["pytest"])
        config = Config(
            "SASRec", name, config_dict={"data_path": str(tmp_path), "train_neg_sample_args": None}
        )
        dataset = create_dataset(config)
        assert (dataset.user_num, dataset.item_num, dataset.inter_num) == (25, 25, 576)
        _, _, test = data_preparation(config, dataset)
        feat = test.dataset.inter_feat
        last = dataset.token2id(dataset.iid_field, [f"i{user}" for user in range(24)])  # written first
        by_user = dict(zip(feat[dataset.uid_field].tolist(), feat[dataset.iid_field].tolist()))
        users = dataset.token2id(dataset.uid_field, [f"u{user}" for user in range(24)])
        assert [by_user[user] for user in users.tolist()] == last.tolist()


class TestNames:
    def test_every_name_is_known_to_recbole(self) -> None:
        known = set(load(RECBOLE / "dataset" / "url.yaml"))
        named = {path.stem for path in DATASETS} | {name for names in ALIASES.values() for name in names}
        assert named - known == FAMILIES

    def test_a_name_is_listed_once_and_its_file_exists(self) -> None:
        names = [name for shared in ALIASES.values() for name in shared]
        assert len(names) == len(set(names))
        stems = {path.stem for path in DATASETS}
        assert set(ALIASES) <= stems
        assert not stems & set(names)

    def test_every_amazon_review_set_is_served(self) -> None:
        known = load(RECBOLE / "dataset" / "url.yaml")
        assert [n for n in known if n.startswith("amazon-") and dataset_properties(n) is None] == [
            "amazon-m2"
        ]

    def test_recboles_own_files_are_not_shadowed(self) -> None:
        assert not {path.name for path in DATASETS} & {path.name for path in RECBOLE.glob("dataset/*.yaml")}


def hyper_files() -> list[Path]:
    return sorted(PROPERTIES.glob("hyper/*.hyper"))


class TestHyperFiles:
    @pytest.mark.parametrize("path", hyper_files(), ids=lambda path: path.stem)
    def test_recbole_reads_every_line(self, path: Path) -> None:
        pytest.importorskip("hyperopt", reason="RecBole's HyperTuning needs the optional hyperopt")
        from recbole.trainer.hyper_tuning import HyperTuning

        space = HyperTuning._build_space_from_file(str(path))
        assert len(space) == len(path.read_text().split("\n")) - 1

    @pytest.mark.parametrize("path", hyper_files(), ids=lambda path: path.stem)
    def test_every_key_is_documented(self, path: Path) -> None:
        name = next(cls.__name__ for cls in MODELS if path.stem.split("_")[0] == cls.__name__.lower())
        documented = set(load(PROPERTIES / "model" / "SCE.yaml"))
        documented |= set(load(RECBOLE / "model" / f"{name[: -len('SCE')]}.yaml"))
        documented |= set(load(RECBOLE / "overall.yaml")) | set(load(RECBOLE / "dataset" / "sample.yaml"))
        assert {line.split()[0] for line in path.read_text().splitlines()} <= documented

    def test_the_small_search_can_be_run_to_the_end(self) -> None:
        pytest.importorskip("hyperopt", reason="RecBole's HyperTuning needs the optional hyperopt")
        from recbole.trainer.hyper_tuning import HyperTuning

        path = PROPERTIES / "hyper" / "sasrecsce.hyper"
        tuning = HyperTuning(lambda *_: {}, params_file=str(path), algo="exhaustive")
        assert 1 < tuning.max_evals <= 36

    def test_both_searches_are_there(self) -> None:
        assert {"sasrecsce", "sasrecsce_wide"} <= {path.stem for path in hyper_files()}


class TestNamedFiles:
    #: batch, buckets and states in each, items in each, mix: the table of the authors' best settings.
    PAPER = {  # noqa: RUF012
        "paper/amazon-beauty": ("amazon-beauty", 1024, 202, 256, False),
        "paper/beeradvocate": ("beeradvocate", 512, 615, 256, True),
        "paper/behance": ("behance", 256, 261, 64, True),
        "paper/gowalla": ("gowalla-merged", 2048, 882, 256, False),
        "paper/kindle-store": ("amazon-kindle-store", 2048, 658, 256, True),
        "paper/yelp": ("yelp", 1024, 470, 1024, False),
    }

    def test_all_are_found(self) -> None:
        assert property_file_names() == [
            *self.PAPER,
            *(f"protocol/{name}" for name in ("leave-one-out", "recbole", "temporal")),
        ]
        with pytest.raises(ValueError, match=r"'paper/behence' is no property file.*paper/behance"):
            recbole_sce.property_file("paper/behence")

    @pytest.mark.parametrize("name", property_file_names())
    def test_every_key_is_known_and_no_value_is_refused(
        self, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from recbole_sce.cli.overrides import check_keys

        monkeypatch.setattr("sys.argv", ["pytest"])
        path = recbole_sce.property_file(name)
        settings = load(Path(path))
        check_keys([key for key in settings if key not in ("model", "dataset")], "SASRecSCE", "behance", ())
        model, dataset = settings.get("model", "SASRecSCE"), settings.get("dataset", "behance")
        config = Config(model, dataset, config_file_list=[path])
        assert all(config[key] == value for key, value in settings.items() if key != "eval_args")
        assert config["eval_args"]["split"] == {"LS": "valid_and_test"}

    @pytest.mark.parametrize("name", PAPER)
    def test_the_papers_settings(self, name: str) -> None:
        settings = load(Path(recbole_sce.property_file(name)))
        temporal = name != "paper/amazon-beauty"
        names = ("dataset", "train_batch_size", "n_buckets", "bucket_size_y", "mix_x")
        assert tuple(settings[key] for key in names) == self.PAPER[name]
        assert settings["bucket_size_x"] == settings["n_buckets"]
        assert settings["complete_softmax"] is False
        assert settings["recipe"] == "plain"  # no average of the weights, no later targets
        dropout, patience = (0.3, 10) if temporal else (0.6, 50)
        assert settings["hidden_dropout_prob"] == settings["attn_dropout_prob"] == dropout
        assert settings["stopping_step"] == patience
        protocol = load(
            Path(recbole_sce.property_file("protocol/temporal" if temporal else "protocol/leave-one-out"))
        )
        assert {key: settings[key] for key in protocol} == protocol
