"""recbole-sce run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from logs import write_log

from cli.conftest import Call

SMALL = (
    "--epochs=1",
    "--hidden_size=16",
    "--inner_size=16",
    "--MAX_ITEM_LIST_LENGTH=10",
    "--show_progress=False",
)


@pytest.mark.slow
def test_train_and_test(call: Call, tmp_path: Path) -> None:
    write_log(tmp_path / "data", "tiny")
    (tmp_path / "mine.yaml").write_text(
        "model: GRU4RecSCE\nload_col: {inter: [user_id, item_id, timestamp]}\n"
    )
    arguments = ("-d", "tiny", "--config_files", "mine.yaml", "--data_path=data", "--topk=[3]", *SMALL[2:])
    outcome = call(
        "run", *arguments, "--epochs=2", "--valid_metric=NDCG@3", "--colour=red", "--json", "result.json"
    )
    assert outcome.code == 0, outcome.err
    record = json.loads((tmp_path / "result.json").read_text())
    assert (record["model"], record["dataset"]) == ("GRU4RecSCE", "tiny")
    assert record["overrides"]["epochs"] == "2"
    assert set(record["test_result"]) == {"recall@3", "mrr@3", "ndcg@3", "hit@3", "precision@3"}
    assert record["best_valid_score"] == record["best_valid_result"]["ndcg@3"]
    assert record["peak_memory_mib"]["process"] > 50
    assert Path(record["checkpoint"]).is_file()
    assert "GRU4RecSCE on tiny" in outcome.out
    for value in (f"{record['test_result']['ndcg@3']:.4f}", record["checkpoint"]):
        assert value in outcome.out
    assert "warning: configuration key 'colour' is unknown" in outcome.err
    assert "will not be used in RecBole" not in outcome.err


@pytest.mark.slow
def test_resume(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_log(tmp_path / "data", "tiny")
    columns = "--load_col={'inter':['user_id','item_id','timestamp']}"
    arguments = ("run", "-d", "tiny", "--data_path=data", columns, "--learning_rate=0.01", *SMALL[1:])

    def record(*more: str) -> dict[str, object]:
        outcome = call(*arguments, "--json", "result.json", *more)
        assert outcome.code == 0, outcome.err
        content: dict[str, object] = json.loads((tmp_path / "result.json").read_text())
        return content

    whole = record("--epochs=3", "--checkpoint_dir=whole")
    part = record("--epochs=1", "--resume")
    resumed = record("--epochs=3", "--resume")  # as "--resume auto"
    assert resumed["checkpoint"] == part["checkpoint"]
    assert resumed["test_result"] == whole["test_result"] != part["test_result"]
    again = record("--epochs=3", "--resume", str(part["checkpoint"]))
    assert again["test_result"] == whole["test_result"]
    refused = call(*arguments, "--epochs=3", "--resume", part["checkpoint"], "--seed=8")
    assert refused.code == 2
    assert "seed: 2020 then, 8 now" in refused.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--model", "SASRecSE"], "model 'SASRecSE' is unknown: did you mean SASRecSCE"),
        (["--dataset", "ml-100q"], "ml-100q.inter (data_path: "),
        (["--epoch=1"], "did you mean 'epochs'?"),
    ],
)
def test_mistakes_in_names(arguments: list[str], text: str, call: Call) -> None:
    outcome = call("run", *arguments)
    assert outcome.code == 2
    assert text in outcome.err
    assert outcome.err.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--epochs", "1"], "write --epochs=1"),
        (["--bucket_alpha=-1"], "bucket_alpha must be a number above 0, got -1"),
        (["--config_files", "none.yaml"], "none.yaml cannot be read"),
        (["--json", "no/such/folder/r.json"], "the folder of no/such/folder/r.json does not exist"),
        (["--nproc", "0"], "--nproc"),
        (
            ["--nproc", "2", "--world_size", "1"],
            "must be at least group_offset + nproc = 2, got 1",
        ),
        (
            ["--nproc", "2", "--sparse_item_updates=True", "--enable_scaler=True"],
            "enable_scaler must be False in several processes",
        ),
        (["-m", "SASRec"], "train_neg_sample_args"),
        (["--resume", "none.pth"], "got none.pth: there is no such file"),
        (["-m", "SASRec", "--resume"], "--resume: SASRec is RecBole's own"),
    ],
)
def test_mistakes_fail_before_data_is_read(
    arguments: list[str], text: str, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = call("run", *arguments)
    assert outcome.code == 2
    assert text in outcome.err
    assert not list(tmp_path.iterdir())  # no log, no checkpoint folder


def test_a_traceback_for_debug_anywhere(call: Call) -> None:
    for arguments in (["--debug", "run", "-m", "Nonsense"], ["run", "-m", "Nonsense", "--debug"]):
        outcome = call(*arguments)
        assert outcome.code == 2
        assert "Traceback" in outcome.err


@pytest.mark.slow
def test_files_of_recbole_sce_are_called_by_name(call: Call, tmp_path: Path) -> None:
    users = [(user, 1_600_000_000 + 300 * (user % 10)) for user in range(40)]  # a quarter is active late
    lines = [f"u{user}\ti{(user + n) % 30}\t{start + n}" for user, start in users for n in range(20)]
    log = tmp_path / "data" / "behance" / "behance.inter"
    log.parent.mkdir(parents=True)
    log.write_text("\n".join(["user_id:token\titem_id:token\ttimestamp:float", *lines]) + "\n")
    outcome = call(
        "run",
        "--config_files",
        "paper/behance",
        "--data_path=data",
        "--json",
        "result.json",
        "--temporal_holdout=0.9",
        *SMALL,
    )
    assert outcome.code == 0, outcome.err
    record = json.loads((tmp_path / "result.json").read_text())
    assert (record["model"], record["dataset"]) == ("SASRecSCE", "behance")
    assert {"ndcg@10", "itemcoverage@10"} <= set(record["test_result"])


def test_a_name_that_nobody_brings_is_a_missing_file(call: Call) -> None:
    outcome = call("run", "--config_files", "paper/behence")
    assert outcome.code == 2
    assert "--config_files: paper/behence cannot be read" in outcome.err
