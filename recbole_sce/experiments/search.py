"""Which parameters a search tries next: RecBole's spaces and hyperopt's algorithms, so that they can go on.

The parameters of trial ``n`` depend on the space, the algorithm, the seed, ``n`` and (for ``bayes``) the
trials before, and on nothing that is lost when a search is interrupted.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np

from recbole_sce.experiments.spec import ExperimentError

ALGORITHMS = ("exhaustive", "random", "bayes")


class Search:
    """A space of parameters and a way through it.

    Args:
        params_file: a file of RecBole's ``HyperTuning``: lines of ``name type values``, type being choice,
            uniform, quniform or loguniform.
        algorithm: one of :data:`ALGORITHMS`; ``exhaustive`` tries each combination once, in order.
        seed: of the random draws.

    Raises:
        ExperimentError: the file cannot be read or has no parameters, or its space cannot be searched so.
    """

    def __init__(self, params_file: Union[str, Path], algorithm: str, seed: int) -> None:
        from recbole.trainer import HyperTuning

        if algorithm not in ALGORITHMS:
            raise ExperimentError(f"algorithm: {algorithm!r} is not allowed; {', '.join(ALGORITHMS)} are")
        try:
            self._space = HyperTuning(lambda *_: None, params_file=str(params_file), algo="random").space
        except OSError as error:
            raise ExperimentError(f"{params_file} cannot be read ({error.strerror})") from error
        except ValueError as error:
            if "at least one of" not in str(error):  # what HyperTuning says of an empty space
                raise ExperimentError(f"{params_file}: {error}") from error
            self._space = {}
        except TypeError as error:  # a choice of no list
            raise ExperimentError(f"{params_file}: a value cannot be read ({error})") from error
        if not self._space:
            raise ExperimentError(f"{params_file} names no parameter: lines of 'name type values' do")
        self.algorithm, self._seed = algorithm, seed
        self._options: list[int] = []
        if algorithm == "exhaustive":
            drawn = [name for name, node in self._space.items() if node.name != "switch"]
            if drawn:
                raise ExperimentError(
                    f"{params_file}: {', '.join(drawn)} cannot be searched exhaustively, since only choices "
                    "can be counted; use random or bayes"
                )
            self._options = [len(node.pos_args) - 1 for node in self._space.values()]

    @property
    def names(self) -> list[str]:
        """The parameters, in the file's order."""
        return list(self._space)

    @property
    def size(self) -> Optional[int]:
        """How many combinations an exhaustive search tries; None for the others."""
        return math.prod(self._options) if self.algorithm == "exhaustive" else None

    def values(self, number: int, trials: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return hyperopt's values of trial ``number``: of a choice its index, else the number itself.

        Args:
            number: of the trial, from 0 on.
            trials: those before, each with ``trial``, ``values`` and, if it succeeded, ``loss`` (smaller is
                better).
        """
        if self.algorithm == "exhaustive":
            indices = next(itertools.islice(itertools.product(*map(range, self._options)), number, None))
            return dict(zip(self._space, indices))
        import hyperopt
        from hyperopt.base import Domain, Trials, trials_from_docs

        suggest = hyperopt.rand.suggest if self.algorithm == "random" else hyperopt.tpe.suggest
        seed = int(np.random.SeedSequence([self._seed, number]).generate_state(1)[0] % 2**31)
        history = trials_from_docs([_document(trial) for trial in trials]) if trials else Trials()
        suggested = suggest([number], Domain(lambda _: None, self._space), history, seed)[0]
        found: dict[str, Any] = {}
        for name in self._space:
            value = suggested["misc"]["vals"][name][0]
            found[name] = value.item() if isinstance(value, np.generic) else value
        return found

    def parameters(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the configuration that :meth:`values` stand for, as plain data."""
        from hyperopt import space_eval

        found = space_eval(self._space, dict(values))
        plain: dict[str, Any] = json.loads(json.dumps(found, default=lambda value: value.item()))
        return {name: plain[name] for name in self._space}


def _document(trial: Mapping[str, Any]) -> dict[str, Any]:
    """Return a finished trial as hyperopt keeps one."""
    from hyperopt.base import JOB_STATE_DONE, STATUS_FAIL, STATUS_OK

    number, values = trial["trial"], trial["values"]
    failed = trial.get("loss") is None
    return {
        "tid": number,
        "state": JOB_STATE_DONE,
        "result": {"status": STATUS_FAIL} if failed else {"status": STATUS_OK, "loss": trial["loss"]},
        "misc": {
            "tid": number,
            "cmd": ("domain_attachment", "FMinIter_Domain"),
            "workdir": None,
            "idxs": {name: [number] for name in values},
            "vals": {name: [value] for name, value in values.items()},
        },
        **dict.fromkeys(("spec", "exp_key", "owner", "book_time", "refresh_time")),
        "version": 0,
    }
