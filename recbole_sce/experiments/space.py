"""Search spaces in the form of RecBole's ``.hyper`` files: one parameter per line, ``name type values``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbole_sce.experiments.spec import ExperimentError
from recbole_sce.safe_io.literals import NotLiteralError, read_literal

KINDS = ("choice", "uniform", "quniform", "loguniform")
#: What the values of a range must be, by the type.
_RANGES = {
    "uniform": "two numbers LOW,HIGH with LOW < HIGH",
    "quniform": "three numbers LOW,HIGH,STEP with LOW < HIGH and 0 < STEP <= HIGH - LOW",
    "loguniform": "two numbers LOW,HIGH with LOW < HIGH, the natural logarithms of the bounds",
}
#: Decimal digits of a value between steps; more are rounding errors of the step.
_DIGITS = 12


@dataclass(frozen=True)
class Parameter:
    """One parameter of a space.

    Args:
        name: its configuration key.
        kind: one of :data:`KINDS`.
        values: the choices, or the numbers of a range as the file has them.
    """

    name: str
    kind: str
    values: tuple[Any, ...]

    def options(self) -> list[Any] | None:
        """Return all values in order; None where they cannot be counted."""
        if self.kind == "choice":
            return list(self.values)
        if self.kind == "quniform":
            low, high, step = self.values
            last = math.floor(round((high - low) / step, _DIGITS))
            return [_rounded(low + number * step) for number in range(last + 1)]
        return None

    def ends(self) -> list[Any]:
        """Return the values by which the whole range can be checked: all choices, or both bounds."""
        if self.kind == "loguniform":
            return [math.exp(bound) for bound in self.values]
        options = self.options() or list(self.values)
        return options if self.kind == "choice" else [options[0], options[-1]]

    def stored(self, value: Any) -> Any:
        """Return a value as a study keeps it: plain values as they are, lists and dicts as text."""
        return value if value is None or isinstance(value, (bool, int, float, str)) else repr(value)

    def suggest(self, trial: Any) -> Any:
        """Return the value that an Optuna trial has, or now gets, of this parameter."""
        if self.kind == "choice":
            stored = [self.stored(value) for value in self.values]
            return self.values[stored.index(trial.suggest_categorical(self.name, stored))]
        if self.kind == "loguniform":
            low, high = self.ends()
            return trial.suggest_float(self.name, low, high, log=True)
        if self.kind == "uniform":
            return trial.suggest_float(self.name, *self.values)
        options = self.options() or []
        step = self.values[2]
        if all(isinstance(value, int) for value in (*options[:1], step)):
            return trial.suggest_int(self.name, options[0], options[-1], step=step)
        return _rounded(trial.suggest_float(self.name, options[0], options[-1], step=step))


@dataclass(frozen=True)
class Space:
    """The parameters of a search, in the order of the file."""

    parameters: tuple[Parameter, ...]

    @property
    def names(self) -> list[str]:
        """The configuration keys."""
        return [one.name for one in self.parameters]

    def grid(self) -> dict[str, list[Any]]:
        """Return all values of each parameter, as a study keeps them.

        Raises:
            ExperimentError: a parameter has a range without steps.
        """
        grid = {}
        for one in self.parameters:
            options = one.options()
            if options is None:
                raise ExperimentError(
                    f"{one.name} must be a choice or quniform to be searched exhaustively, got {one.kind}: "
                    "use random or bayes"
                )
            grid[one.name] = [one.stored(value) for value in options]
        return grid

    def suggest(self, trial: Any) -> dict[str, Any]:
        """Return the settings of an Optuna trial."""
        return {one.name: one.suggest(trial) for one in self.parameters}


def read_space(params_file: str | Path) -> Space:
    """Read a search space.

    Args:
        params_file: lines of ``name type values``. ``choice [a,b]``; ``uniform low,high``;
            ``quniform low,high,step``, whose values are whole numbers where low and step are;
            ``loguniform low,high``, the natural logarithms of the bounds.

    Raises:
        ExperimentError: the file cannot be read, a line has another form, or there are no parameters.
    """
    try:
        lines = Path(params_file).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ExperimentError(f"{params_file} cannot be read ({error.strerror})") from error
    parameters: dict[str, Parameter] = {}
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        place = f"{params_file}, line {number}: "
        if len(words) < 3:
            raise ExperimentError(f"{place}a line must be 'name type values', got {line.strip()!r}")
        name, kind, text = words[0], words[1], "".join(words[2:])
        if name in parameters:
            raise ExperimentError(f"{place}{name} must stand on one line, got a second one")
        try:
            parameters[name] = Parameter(name, kind, _values(name, kind, text))
        except ExperimentError as error:
            raise ExperimentError(f"{place}{error}") from None
    if not parameters:
        raise ExperimentError(f"{params_file} must name a parameter, got no line of 'name type values'")
    return Space(tuple(parameters.values()))


def _values(name: str, kind: str, text: str) -> tuple[Any, ...]:
    if kind not in KINDS:
        raise ExperimentError(f"{name} must be of the type {', '.join(KINDS)}, got {kind}")
    if kind == "choice":
        try:
            values = read_literal(text, {})
        except NotLiteralError:
            values = None
        if not isinstance(values, (list, tuple)) or not values:
            raise ExperimentError(f"{name} must be a list of values such as [1,2], got {text}")
        return tuple(values)
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    fits = len(numbers) == 2 + (kind == "quniform") and all(map(math.isfinite, numbers))
    if not fits or numbers[0] >= numbers[1] or (kind == "quniform" and _bad_step(*numbers)):
        raise ExperimentError(f"{name} must be {_RANGES[kind]}, got {text}")
    if kind == "quniform":
        return tuple(int(number) if number.is_integer() else number for number in numbers)
    return tuple(numbers)


def _bad_step(low: float, high: float, step: float) -> bool:
    return not 0 < step <= high - low


def _rounded(value: Any) -> Any:
    return value if isinstance(value, int) else round(value, _DIGITS)
