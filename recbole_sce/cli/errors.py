"""What a failure means to the shell: one paragraph on stderr, and an exit code."""

from __future__ import annotations

import sys
import traceback

#: The run failed: training, evaluation or writing broke down.
FAILED = 1
#: What was asked for cannot be done: wrong usage, settings, data or checkpoint.
WRONG_INPUT = 2

#: An exception that passes through these modules comes of settings or data, not of training.
_SETTING_UP = ("recbole.config.configurator", "recbole.data.utils", "recbole_sce.settings")
#: The same, for the constructors of models and trainers: they check the sizes that they are given.
_CONSTRUCTORS = ("recbole.model.", "recbole_sce.model.", "recbole_sce.training.")


class InputError(Exception):
    """What the user asked for cannot be done; the message says why, and what can."""


def exit_code(error: BaseException) -> int:
    """Return the exit code of ``error``: :data:`WRONG_INPUT` if the user can mend it by asking otherwise."""
    from recbole_sce.compat import CheckpointError, SavedDataError
    from recbole_sce.compat.launch import RemoteTraceback, frames_of
    from recbole_sce.utils.processes import LayoutError

    if isinstance(error, MemoryError):
        return FAILED
    wrong = (InputError, CheckpointError, SavedDataError, LayoutError, FileNotFoundError, FileExistsError)
    if isinstance(error, wrong):
        return WRONG_INPUT
    remote = error.__cause__.frames if isinstance(error.__cause__, RemoteTraceback) else ()
    for module, function in (*frames_of(error), *remote):
        if module in _SETTING_UP:
            return WRONG_INPUT
        if function == "__init__" and module.startswith(_CONSTRUCTORS):
            return WRONG_INPUT
    return FAILED


def message(error: BaseException) -> str:
    """Return ``error`` as one paragraph."""
    from recbole_sce.compat import CheckpointError, SavedDataError

    if isinstance(error, FileNotFoundError) and error.filename is not None:
        return f"{error.filename} does not exist"
    text = " ".join(str(error).split())
    plain = (InputError, CheckpointError, SavedDataError, ValueError, OSError, ImportError)
    if not text or not isinstance(error, plain):
        text = f"{type(error).__name__}: {text}"
    return text


def report(error: BaseException, debug: bool) -> int:
    """Print ``error`` on stderr, with its traceback if ``debug``, and return the exit code."""
    if debug:
        traceback.print_exception(type(error), error, error.__traceback__)
    print(f"error: {message(error)}", file=sys.stderr)
    return exit_code(error)


def warn(text: str) -> None:
    """Print a warning on stderr."""
    print(f"warning: {text}", file=sys.stderr)
