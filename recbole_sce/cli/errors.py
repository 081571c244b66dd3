"""What a failure means to the shell: one paragraph on stderr, and an exit code."""

from __future__ import annotations

import sys
import traceback

from recbole_sce.errors import FAILED, WRONG_INPUT, InputError, RecboleSCEError, exit_code

__all__ = ["FAILED", "WRONG_INPUT", "InputError", "exit_code", "message", "report", "warn"]


def message(error: BaseException) -> str:
    """Return ``error`` as one paragraph."""
    if isinstance(error, FileNotFoundError) and error.filename is not None:
        return f"{error.filename} does not exist"
    text = " ".join(str(error).split())
    if not text or not isinstance(error, (RecboleSCEError, ValueError, OSError, ImportError)):
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
