"""Rules for the package's files that ruff and import-linter do not know."""

from __future__ import annotations

from pathlib import Path

import recbole_sce

PACKAGE = Path(recbole_sce.__file__).parent
LONGEST = 400
#: Files that are longer, each with its reason.
LONGER = {
    "data/dataset.py": "the steps of RecBole's data set class, which are overridden in one subclass",
    "experiments/tuning.py": "one study: its space, its trials and how it goes on after an interruption",
    "inference/recommender.py": "one class; what it searches with lies in evaluator",
    "loss/ops/triton_kernels.py": "kernels that share their blocks, with the code that starts them",
}


def test_a_file_holds_one_idea() -> None:
    lengths = {
        path.relative_to(PACKAGE).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in PACKAGE.rglob("*.py")
    }
    assert {file for file, length in lengths.items() if length > LONGEST} == set(LONGER)
