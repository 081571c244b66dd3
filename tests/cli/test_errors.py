"""What a failure tells the shell and the user."""

from __future__ import annotations

import ast
import errno
import pickle
from pathlib import Path

import pytest

import recbole_sce
from recbole_sce.cli.errors import FAILED, WRONG_INPUT, InputError, exit_code, message, report
from recbole_sce.compat import CheckpointError, CheckpointWriteError
from recbole_sce.errors import setting_up


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (InputError("no\n  such thing"), WRONG_INPUT, "no such thing"),
        (CheckpointError("damaged"), WRONG_INPUT, "damaged"),
        (CheckpointWriteError("disk full"), FAILED, "disk full"),
        (
            FileNotFoundError(errno.ENOENT, "No such file or directory", "x.yaml"),
            WRONG_INPUT,
            "x.yaml does not exist",
        ),
        (ValueError("a value"), FAILED, "a value"),
        (RuntimeError("broke"), FAILED, "RuntimeError: broke"),
        (KeyError("user_id"), FAILED, "KeyError: 'user_id'"),
        (MemoryError(), FAILED, "MemoryError:"),
    ],
)
def test_code_and_paragraph(error: Exception, code: int, text: str) -> None:
    assert exit_code(error) == code
    assert message(error).strip() == text


def test_all_errors_of_the_package_have_one_base() -> None:
    bases = {}
    for path in Path(recbole_sce.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and node.name.endswith("Error"):
                bases[node.name] = ast.unparse(node.bases[0])
    assert bases.pop("RecboleSCEError") == "Exception"
    assert {"SettingsError", "CheckpointError", "InputError"} <= set(bases)
    assert set(bases.values()) == {"RecboleSCEError"}


def test_an_error_keeps_its_type_and_its_code_in_another_process() -> None:
    with pytest.raises(KeyError) as raised, setting_up():
        raise KeyError("user_id")
    assert exit_code(pickle.loads(pickle.dumps(raised.value))) == WRONG_INPUT
    with pytest.raises(MemoryError) as full, setting_up():
        raise MemoryError
    assert exit_code(full.value) == FAILED


def test_where_an_error_comes_from_decides(tiny_dataset: dict[str, object]) -> None:
    from recbole.config import Config
    from recbole.data import create_dataset
    from recbole.utils import get_model, get_trainer

    def code_of(make: object, *arguments: object, **keywords: object) -> int:
        try:
            make(*arguments, **keywords)  # type: ignore[operator]
        except Exception as error:
            return exit_code(error)
        raise AssertionError("no error")

    assert (
        code_of(Config, "SASRec", "tiny", config_dict={**tiny_dataset, "metrics": ["Nonsense"]})
        == WRONG_INPUT
    )
    assert (
        code_of(Config, "SASRecSCE", "tiny", config_dict={**tiny_dataset, "bucket_alpha": 0}) == WRONG_INPUT
    )
    assert code_of(create_dataset, Config("SASRecSCE", "tinny", config_dict=tiny_dataset)) == WRONG_INPUT
    base = Config("SASRec", "tiny", config_dict={**tiny_dataset, "train_neg_sample_args": None})
    base["hidden_size"] = 15
    assert code_of(get_model("SASRec"), base, create_dataset(base)) == WRONG_INPUT
    config = Config("SASRecSCE", "tiny", config_dict=tiny_dataset)
    dataset = create_dataset(config)
    dataset.build()
    model = get_model("SASRecSCE")(config, dataset)
    assert code_of(model.calculate_loss, {}) == FAILED
    config["learning_rate"] = -1.0
    assert code_of(get_trainer(config["MODEL_TYPE"], "SASRecSCE"), config, model) == WRONG_INPUT


def test_a_traceback_only_for_who_asks(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise RuntimeError("broke")
    except RuntimeError as error:
        report(error, debug=False)
        assert capsys.readouterr().err == "error: RuntimeError: broke\n"
        report(error, debug=True)
        assert "Traceback" in capsys.readouterr().err
