"""The base of the package's errors, and what an error means to a shell."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

#: The run failed: training, evaluation or writing broke down.
FAILED = 1
#: What was asked for cannot be done: wrong usage, settings, data or checkpoint.
WRONG_INPUT = 2


class RecboleSCEError(Exception):
    """An error that the package raises.

    Attributes:
        exit_code: what ``recbole-sce`` ends with.
    """

    exit_code = WRONG_INPUT


class InputError(RecboleSCEError):
    """What the user asked for cannot be done; the message says why, and what can."""


def exit_code(error: BaseException) -> int:
    """Return the exit code of ``error``: :data:`WRONG_INPUT` if the user can mend it by asking otherwise."""
    if isinstance(error, (FileNotFoundError, FileExistsError)):
        return WRONG_INPUT
    return int(getattr(error, "exit_code", FAILED))


@contextmanager
def setting_up() -> Iterator[None]:
    """Give what is raised inside, by whatever library, the exit code of wrong input.

    It keeps its type: who uses RecBole from Python catches what RecBole raises.
    """
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        if not hasattr(error, "exit_code"):
            error.exit_code = WRONG_INPUT  # type: ignore[attr-defined]
        raise


def constructor_sets_up(cls: Any) -> None:
    """Let a class be made within :func:`setting_up`: models and trainers check the sizes that they get."""
    original = cls.__init__
    if getattr(original, "sets_up", False):
        return

    @functools.wraps(original)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        with setting_up():
            original(self, *args, **kwargs)

    init.sets_up = True  # type: ignore[attr-defined]
    cls.__init__ = init
