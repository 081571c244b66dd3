"""What a failure tells the shell and the user."""

from __future__ import annotations

import errno

import pytest

from recbole_sce.cli.errors import FAILED, WRONG_INPUT, InputError, exit_code, message, report
from recbole_sce.compat import CheckpointError


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (InputError("no\n  such thing"), WRONG_INPUT, "no such thing"),
        (CheckpointError("damaged"), WRONG_INPUT, "damaged"),
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


def test_where_an_error_comes_from_decides(tiny_dataset: dict[str, object]) -> None:
    from recbole.config import Config
    from recbole.data import create_dataset
    from recbole.utils import get_model

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
    config = Config("SASRecSCE", "tiny", config_dict={**tiny_dataset, "hidden_size": 15})
    dataset = create_dataset(config)
    assert code_of(get_model("SASRecSCE"), config, dataset) == WRONG_INPUT
    config["hidden_size"] = 16
    dataset.build()
    assert code_of(get_model("SASRecSCE")(config, dataset).calculate_loss, {}) == FAILED


def test_a_traceback_only_for_who_asks(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise RuntimeError("broke")
    except RuntimeError as error:
        report(error, debug=False)
        assert capsys.readouterr().err == "error: RuntimeError: broke\n"
        report(error, debug=True)
        assert "Traceback" in capsys.readouterr().err
