"""Runs that are cut off and go on; what they may go on from, and what is refused."""

from __future__ import annotations

import logging
import os
import resource
import signal
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from factory import SMALL, prepare_trainer
from logs import write_log
from recbole.quick_start import load_data_and_model
from recbole.utils import init_seed
from robustness.kills import unequal

from recbole_sce import SettingsError
from recbole_sce.compat import CheckpointError, CheckpointWriteError, safe_load, save_checkpoint
from recbole_sce.training import SCETrainer
from recbole_sce.training.callbacks import last_state as checkpoints
from recbole_sce.training.callbacks.last_state import best_path, last_path, new_best_path

Prepare = Callable[..., SimpleNamespace]

SAMPLED = {"split": {"LS": "valid_and_test"}, "group_by": "user", "order": "TO", "mode": "uni5"}


class Cut(Exception):
    """The end of a process, as far as one process can play it."""


@pytest.fixture
def prepare(tiny_dataset: dict[str, Any], caplog: pytest.LogCaptureFixture) -> Prepare:
    """Return ``prepare(**settings)`` -> a trainer and its loaders, made as ``run_recbole`` makes them."""
    caplog.set_level(logging.INFO)

    def prepared(model: str = "SASRecSCE", **settings: Any) -> SimpleNamespace:
        few_steps = {"epochs": 4, "learning_rate": 0.01, "use_gpu": False}
        return prepare_trainer(model, "tiny", {**tiny_dataset, **SMALL, **few_steps, **settings})

    return prepared


def fit(run: SimpleNamespace, cut_in: int = -1, valid: bool = True) -> Any:
    """Train and test; with ``cut_in``, end in that epoch, after the best model and before the last state."""

    def cut(epoch: int, score: float) -> None:
        if epoch == cut_in:
            raise Cut

    best = run.trainer.fit(run.train, run.valid if valid else None, verbose=False, callback_fn=cut)
    return best, run.trainer.evaluate(run.test)


def cut_off(run: SimpleNamespace, epoch: int) -> Path:
    """Train until ``epoch`` is cut off; return the run's last state."""
    with pytest.raises(Cut):
        fit(run, cut_in=epoch)
    return last_path(run.trainer.saved_model_file)


def content(trainer: SCETrainer) -> list[dict[str, Any]]:
    """Return what both checkpoints hold, settings aside."""
    files = (last_path(trainer.saved_model_file), trainer.saved_model_file)
    return [{key: value for key, value in safe_load(file).items() if key != "config"} for file in files]


class TestTheSameEnd:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        "settings",
        [
            {},
            {"sparse_item_updates": True, "loss_type": "CE-"},
            {"model": "GRU4RecSCE", "eval_args": SAMPLED, "ema_decay": 0.9},
            {"model": "BERT4RecSCE", "weight_decay": 0.01},
            {"stopping_step": 1, "learning_rate": 0.1, "epochs": 30},
            {"shuffle": False, "learner": "sgd", "ema_decay": None},
        ],
        ids=["defaults", "rows", "candidates", "masks", "early-stopping", "in-order"],
    )
    def test_whether_a_run_is_cut_off_or_not(self, prepare: Prepare, settings: dict[str, Any]) -> None:
        whole = prepare(**settings, checkpoint_dir="whole")
        expected = fit(whole)
        interrupted = prepare(**settings)
        for epoch in (1, 2):
            last = cut_off(interrupted, epoch)
            assert safe_load(last)["epoch"] == epoch - 1
            interrupted = prepare(**settings, resume="auto")
        assert fit(interrupted) == expected
        assert not unequal(content(whole.trainer), content(interrupted.trainer), "checkpoint")
        if "stopping_step" in settings:
            assert whole.trainer.epoch + 1 < whole.trainer.epochs  # or it would not have stopped

    def test_without_validation(self, prepare: Prepare) -> None:
        whole = prepare(checkpoint_dir="whole", epochs=3)
        fit(whole, valid=False)
        part = prepare(epochs=3)
        train_epoch = part.trainer._train_epoch

        def cut(data: Any, epoch: int, *args: Any, **kwargs: Any) -> Any:
            loss = train_epoch(data, epoch, *args, **kwargs)
            if epoch == 2:
                raise Cut
            return loss

        part.trainer._train_epoch = cut
        with pytest.raises(Cut):
            fit(part, valid=False)
        resumed = prepare(epochs=3, resume="auto")
        fit(resumed, valid=False)
        assert resumed.trainer.saved_model_file == part.trainer.saved_model_file
        assert not unequal(content(whole.trainer), content(resumed.trainer), "checkpoint")

    def test_of_a_run_of_more_epochs(self, prepare: Prepare) -> None:
        whole = prepare(checkpoint_dir="whole")
        expected = fit(whole)
        fit(prepare(epochs=2))
        resumed = prepare(resume="auto")
        assert fit(resumed) == expected
        assert not unequal(content(whole.trainer), content(resumed.trainer), "checkpoint")

    def test_of_the_best_model_that_the_last_state_does_not_know_yet(self, prepare: Prepare) -> None:
        last = cut_off(prepare(), 1)
        assert safe_load(best_path(last))["epoch"] == 1
        assert safe_load(last)["epoch"] == 0
        resumed = prepare(resume=str(last))
        resumed.trainer.resume_checkpoint(last)
        best = safe_load(best_path(last))
        assert resumed.trainer.best_valid_score == best["best_valid_score"]
        assert resumed.trainer.best_valid_result == best["best_valid_result"]

    def test_of_a_loader_that_was_saved(self, prepare: Prepare) -> None:
        whole = prepare(checkpoint_dir="whole", save_dataloaders=True)
        fit(whole)
        part = prepare(checkpoint_dir="part", save_dataloaders=True)
        cut_off(part, 2)
        resumed = prepare(checkpoint_dir="part", save_dataloaders=True, resume="auto")
        assert resumed.train.generator is not None  # it was loaded
        fit(resumed)
        assert not unequal(content(whole.trainer), content(resumed.trainer), "checkpoint")

    def test_of_a_learning_rate_schedule(self, prepare: Prepare, monkeypatch: pytest.MonkeyPatch) -> None:
        class Scheduled(SCETrainer):
            def __init__(self, *args: Any) -> None:
                super().__init__(*args)
                self.scheduler = torch.optim.lr_scheduler.ExponentialLR(self.optimizer, 0.5)

            def _train_epoch(self, *args: Any, **kwargs: Any) -> Any:
                loss = super()._train_epoch(*args, **kwargs)
                self.scheduler.step()
                return loss

        monkeypatch.setattr("recbole.trainer.SASRecSCETrainer", Scheduled)
        whole = prepare(checkpoint_dir="whole")
        fit(whole)
        cut_off(prepare(), 2)
        resumed = prepare(resume="auto")
        fit(resumed)
        assert resumed.trainer.optimizer.param_groups[0]["lr"] == pytest.approx(0.01 / 16)
        assert not unequal(content(whole.trainer), content(resumed.trainer), "checkpoint")


def test_a_run_that_had_ended_returns_its_result_and_is_not_trained(
    prepare: Prepare, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {"eval_args": SAMPLED, "metrics": ["NDCG", "ItemCoverage", "AveragePopularity"]}
    ended = prepare(**settings)
    expected = fit(ended)
    before = content(ended.trainer)
    monkeypatch.setattr(SCETrainer, "_train_epoch", None)
    again = prepare(**settings, resume="auto")
    assert fit(again) == expected
    assert "The run had ended" in caplog.text
    assert not unequal(before, content(again.trainer), "checkpoint")


class TestFiles:
    def test_the_best_model_is_as_recbole_wants_it_and_the_rest_is_in_the_last_state(
        self, prepare: Prepare
    ) -> None:
        run = prepare()
        fit(run)
        file = run.trainer.saved_model_file
        best, last = safe_load(file), safe_load(last_path(file))
        recboles = {"config", "epoch", "cur_step", "best_valid_score", "state_dict", "other_parameter"}
        assert set(best) == recboles | {"best_valid_result", "token_ids"}
        assert set(last) == recboles | {"token_ids", "optimizer", "training"}
        _, model, *_ = load_data_and_model(file)
        assert torch.equal(model.item_embedding.weight, best["state_dict"]["item_embedding.weight"])

    def test_nothing_is_written_where_nothing_is_to_be_saved(self, prepare: Prepare) -> None:
        run = prepare()
        run.trainer.fit(run.train, run.valid, verbose=False, saved=False)
        assert not list(Path("saved").iterdir())

    def test_runs_of_one_second_have_checkpoints_of_their_own(
        self, prepare: Prepare, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(checkpoints, "get_local_time", lambda: "Jan-01-2025_00-00-00")
        one, other = prepare(epochs=1), prepare(epochs=1, seed=7)
        fit(one)
        before = content(one.trainer)
        fit(other)
        assert not unequal(before, content(one.trainer), "checkpoint")
        assert len(list(Path("saved").iterdir())) == 4

    def test_names_do_not_draw_from_what_training_draws_from(self) -> None:
        init_seed(1, True)
        one = new_best_path("saved", "SASRecSCE")
        init_seed(1, True)
        assert new_best_path("saved", "SASRecSCE") != one

    def test_what_a_killed_writer_left_is_removed_when_its_run_goes_on(self, prepare: Prepare) -> None:
        last = cut_off(prepare(), 1)
        left = [path.with_name(f".{path.name}.4194305.tmp") for path in (last, best_path(last))]
        others = last.with_name(".SASRecSCE-of-another-run-last.pth.4194305.tmp")
        for path in (*left, others):
            path.touch()
        fit(prepare(resume="auto"))
        assert [path.name for path in Path("saved").glob(".*")] == [others.name]


class TestWhichRun:
    def test_auto_is_the_newest_of_the_same_settings(self, prepare: Prepare) -> None:
        older, newer, other = prepare(), prepare(), prepare(learning_rate=0.02)
        for number, run in enumerate((older, newer, other)):
            os.utime(cut_off(run, 1), (number, number))
        resumed = prepare(resume="auto")
        fit(resumed)
        assert resumed.trainer.saved_model_file == newer.trainer.saved_model_file

    def test_auto_begins_anew_where_there_is_none_and_says_so(
        self, prepare: Prepare, caplog: pytest.LogCaptureFixture
    ) -> None:
        run = prepare(resume="auto", epochs=1)
        fit(run)
        assert "auto: saved has no run of this model, data set and settings" in caplog.text
        assert "training begins anew" in caplog.text
        assert run.trainer.epoch == 0

    def test_auto_names_the_nearest_run_and_what_differs(
        self, prepare: Prepare, caplog: pytest.LogCaptureFixture
    ) -> None:
        far, near = prepare(epochs=1, seed=5, learning_rate=0.02), prepare(epochs=1, dropout_prob=0.1)
        for run in (far, near):
            fit(run)
        begun = prepare(epochs=1, resume="auto", hidden_dropout_prob=0.1, attn_dropout_prob=0.5)
        fit(begun)
        assert begun.trainer.saved_model_file != near.trainer.saved_model_file
        name = last_path(near.trainer.saved_model_file)
        assert f"the nearest, {name}, differs in dropout_prob: 0.1 then, None now; hidden" in caplog.text

    def test_a_path_may_be_that_of_the_best_model(self, prepare: Prepare) -> None:
        last = cut_off(prepare(), 1)
        for named in (last, best_path(last), str(best_path(last))):
            run = prepare(resume=named)
            run.trainer._begin(saved=False)
            assert run.trainer.start_epoch == 1
            assert run.trainer.saved_model_file == str(best_path(last))

    def test_a_folder_may_have_moved(self, prepare: Prepare) -> None:
        last = cut_off(prepare(), 1)
        os.rename("saved", "moved")
        resumed = prepare(resume=str("moved" / Path(last.name)))
        fit(resumed)
        assert {path.parent.name for path in Path().rglob("SASRecSCE-*.pth")} == {"moved"}


class TestChangedSettings:
    @pytest.mark.parametrize(
        ("key", "then", "now"),
        [
            ("learning_rate", 0.01, 0.02),
            ("seed", 2020, 1),
            ("MAX_ITEM_LIST_LENGTH", 10, 9),
            ("stopping_step", 30, 31),
            ("bucket_size_y", 4, 20),
            ("train_positions", "all", "last"),
            ("topk", [10], [5]),
            ("my_own_key", None, 3),
        ],
    )
    def test_are_named_before_data_is_read(
        self, prepare: Prepare, key: str, then: object, now: object
    ) -> None:
        last = cut_off(prepare(), 1)
        os.remove("data/tiny/tiny.inter")
        with pytest.raises(CheckpointError) as error:
            prepare(resume=str(last), **{key: now, "valid_metric": f"NDCG@{now[0] if key == 'topk' else 10}"})
        assert f"resume: {last} is of a run with other settings: " in str(error.value)
        assert f"{key}: {then!r} then, {now!r} now" in str(error.value)

    def test_those_that_the_data_decide_are_compared_when_they_are_read(
        self, prepare: Prepare, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        last = cut_off(prepare(), 1)
        assert safe_load(last)["config"]["hidden_dropout_prob"] == 0.5
        with pytest.raises(CheckpointError, match=r": hidden_dropout_prob: 0\.5 then, 0\.1 now"):
            prepare(resume=str(last), hidden_dropout_prob=0.1, attn_dropout_prob=0.5)
        resumed = prepare(resume=str(last))
        fit(resumed)
        assert resumed.trainer.start_epoch == 1
        monkeypatch.setattr("recbole_sce.settings.recipes.DENSE_FROM", 2)  # another version chooses otherwise
        monkeypatch.setattr("recbole_sce.settings.recipes.DENSE_TOTAL", 0)
        with pytest.raises(CheckpointError, match=r"hidden_dropout_prob: 0\.5 then, 0\.1 now"):
            fit(prepare(resume=str(last)))

    def test_epochs_may_not_be_fewer_than_are_done(self, prepare: Prepare) -> None:
        last = cut_off(prepare(), 3)
        with pytest.raises(CheckpointError, match="epochs: 3 are done, 2 is less"):
            prepare(resume=str(last), epochs=2)

    def test_epochs_may_not_change_which_of_them_are_validated(self, prepare: Prepare) -> None:
        run = prepare(epochs=2, eval_step=3)
        fit(run)  # validates after its last epoch, the second
        with pytest.raises(CheckpointError, match="eval_step: 2 then, 3 now"):
            prepare(resume=run.trainer.saved_model_file, epochs=6, eval_step=3)

    def test_those_without_a_part_in_the_result_may_change(self, prepare: Prepare, tmp_path: Path) -> None:
        last = cut_off(prepare(), 1)
        write_log(tmp_path / "elsewhere", "tiny")
        free = {"data_path": "elsewhere", "checkpoint_dir": "other", "show_progress": True, "state": "ERROR"}
        free.update({"eval_batch_size": 7, "eval_memory_mb": 1, "loss_decimal_place": 2, "gpu_id": "1"})
        resumed = prepare(resume=str(last), epochs=2, **free)
        fit(resumed)
        assert resumed.trainer.epoch == 1

    def test_another_machine_is_told(self, prepare: Prepare, caplog: pytest.LogCaptureFixture) -> None:
        last = cut_off(prepare(), 1)
        state = safe_load(last)
        state["training"]["device"] = "cuda"
        save_checkpoint(state, last)
        fit(prepare(resume=str(last), epochs=2))
        assert "resume: device: cuda then, cpu now; the run goes on" in caplog.text

    def test_other_data_is_refused(self, prepare: Prepare, tmp_path: Path) -> None:
        last = cut_off(prepare(), 1)
        log = tmp_path / "data" / "tiny" / "tiny.inter"
        lines = log.read_text().splitlines()
        lines[-1], lines[-2] = (
            "\t".join([*a.split("\t")[:1], b.split("\t")[1], *a.split("\t")[2:]])
            for a, b in ((lines[-1], lines[-2]), (lines[-2], lines[-1]))
        )  # the last user's last two items swapped
        log.write_text("\n".join(lines) + "\n")
        with pytest.raises(CheckpointError, match="is of a run on other training data"):
            fit(prepare(resume=str(last)))

    @pytest.mark.parametrize("value", [True, 3, "", ["auto"]])
    def test_what_resume_may_be(self, prepare: Prepare, value: object) -> None:
        with pytest.raises(
            SettingsError, match=r"resume must be auto or the path of a checkpoint, or null, got "
        ):
            prepare(resume=value)


class TestRefusedFiles:
    def test_none(self, prepare: Prepare) -> None:
        with pytest.raises(FileNotFoundError, match=r"resume must be .* got saved/none.pth: there is no"):
            prepare(resume="saved/none.pth")

    def test_a_folder(self, prepare: Prepare) -> None:
        cut_off(prepare(), 1)
        with pytest.raises(
            CheckpointError, match=r"resume must be .* got saved, a folder: name a checkpoint in it"
        ):
            prepare(resume="saved")

    def test_a_model_without_its_training(self, prepare: Prepare) -> None:
        last = cut_off(prepare(), 1)
        last.unlink()
        with pytest.raises(CheckpointError, match=rf"{best_path(last)} holds a model and not .* {last}"):
            prepare(resume=str(best_path(last)))

    @pytest.mark.parametrize("replaced", [False, True])
    def test_training_without_its_best_model(self, prepare: Prepare, replaced: bool) -> None:
        last = cut_off(prepare(), 2)
        best = best_path(last)
        state = safe_load(best)
        best.unlink()
        if replaced:
            save_checkpoint({**state, "epoch": 0, "best_valid_score": 0.5}, best)
        with pytest.raises(CheckpointError if replaced else FileNotFoundError) as error:
            prepare(resume=str(last))
        assert str(best) in str(error.value)
        begun = prepare(resume="auto", epochs=2)
        fit(begun)
        assert begun.trainer.saved_model_file != str(best)

    @pytest.mark.parametrize("auto", [False, True])
    def test_one_that_was_cut_short(
        self, prepare: Prepare, auto: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        last = cut_off(prepare(), 1)
        whole = last.read_bytes()
        last.write_bytes(whole[: len(whole) // 2])
        if auto:
            fit(prepare(resume="auto", epochs=1))
            assert f"resume: passed over: {last} is no complete checkpoint" in caplog.text
        else:
            with pytest.raises(CheckpointError, match=f"{last} is no complete checkpoint"):
                prepare(resume=str(last))

    def test_one_with_a_changed_byte(self, prepare: Prepare) -> None:
        last = cut_off(prepare(), 1)
        with zipfile.ZipFile(last) as archive:
            tensors = [member for member in archive.infolist() if "/data/" in member.filename]
        largest = max(tensors, key=lambda member: member.file_size)
        content = bytearray(last.read_bytes())
        content[largest.header_offset + largest.file_size // 2] ^= 1
        last.write_bytes(content)
        with pytest.raises(CheckpointError, match=f"{last} is damaged: the checksum of .* is wrong"):
            fit(prepare(resume=str(last)))

    def test_one_of_recboles_trainer(self, prepare: Prepare) -> None:
        last = cut_off(prepare(), 1)
        save_checkpoint({k: v for k, v in safe_load(last).items() if k != "training"}, last)
        with pytest.raises(CheckpointError, match=f"{last} is not the last state of a run of recbole_sce"):
            prepare(resume=str(last))

    def test_one_that_would_run_code(self, prepare: Prepare, tmp_path: Path) -> None:
        class Order:
            def __reduce__(self) -> tuple[Any, ...]:
                return os.mkdir, (str(tmp_path / "made"),)

        last = cut_off(prepare(), 1)
        torch.save({**safe_load(last), "training": Order()}, last)
        for resume in (str(last), "auto"):
            if resume == "auto":
                fit(prepare(resume=resume, epochs=1))
            else:
                with pytest.raises(CheckpointError, match=r"refused.*mkdir"):
                    prepare(resume=resume)
        assert not (tmp_path / "made").exists()

    def test_one_of_a_model_of_other_sizes(self, prepare: Prepare) -> None:
        last = cut_off(prepare(), 1)
        other = prepare(hidden_size=8, inner_size=8)
        with pytest.raises(CheckpointError, match=f"{last} does not fit the model as it is now: .*item_emb"):
            other.trainer.resume_checkpoint(last)

    def test_one_that_another_process_trains(self, prepare: Prepare) -> None:
        last = cut_off(prepare(), 1)
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            checkpoints.LastState(last).hold()
            os.write(write, b"!")
            signal.pause()
        try:
            os.read(read, 1)
            before = last.read_bytes()
            with pytest.raises(CheckpointError, match=f"{last} belongs to a run that another process"):
                fit(prepare(resume="auto"))
            assert last.read_bytes() == before
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        fit(prepare(resume="auto"))
        assert safe_load(last)["epoch"] == 3


class TestDisks:
    @pytest.fixture
    def full_disk(self) -> Iterator[Callable[[], None]]:
        """Return what makes the system refuse files of more than 20 KiB, as it does on a full disk."""
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_480, hard))
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)

    def test_a_full_one_ends_the_run_and_loses_nothing(
        self, prepare: Prepare, full_disk: Callable[[], None]
    ) -> None:
        whole = prepare(checkpoint_dir="whole")
        fit(whole)
        run = prepare()

        def fill(epoch: int, score: float) -> None:
            if epoch == 1:
                full_disk()

        with pytest.raises(CheckpointWriteError) as error:
            run.trainer.fit(run.train, run.valid, verbose=False, callback_fn=fill)
        last = last_path(run.trainer.saved_model_file)
        assert str(error.value) == (
            f"the checkpoint {last} could not be written: File too large. "
            "Earlier checkpoints are as they were"
        )
        assert {path.name for path in Path("saved").iterdir()} == {last.name, best_path(last).name}
        assert safe_load(last)["epoch"] == 0
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        resumed = prepare(resume="auto")
        fit(resumed)
        assert not unequal(content(whole.trainer), content(resumed.trainer), "checkpoint")

    def test_a_folder_that_cannot_be_written_is_named_before_training(
        self, prepare: Prepare, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = prepare()
        monkeypatch.setattr(SCETrainer, "_train_epoch", None)
        Path("saved").chmod(0o500)
        user = os.geteuid()
        try:
            if user == 0:  # root may write anywhere
                os.seteuid(65534)
            with pytest.raises(CheckpointWriteError, match="checkpoint_dir: saved cannot be written: Perm"):
                fit(run)
        finally:
            os.seteuid(user)
            Path("saved").chmod(0o700)
        assert not list(Path("saved").iterdir())
