"""RecBole on other versions of numpy, scipy and ray, and without ray."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from recbole.config import Config
from recbole.data.interaction import Interaction
from recbole.quick_start import quick_start
from scipy.sparse import dok_matrix

from recbole_sce import compat
from recbole_sce.compat import stack
from recbole_sce.utils import patching
from recbole_sce.utils.patching import Patch, markdown

Python = Callable[[str], "subprocess.CompletedProcess[str]"]


def test_names_that_numpy_2_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("float_", "complex_", "unicode_"):
        monkeypatch.delattr(np, name)
    with pytest.raises(AttributeError):
        Config.compatibility_settings(None)
    assert stack.numpy_aliases()
    Config.compatibility_settings(None)
    assert np.float64 is np.float64
    assert not stack.numpy_aliases()


def test_numpy_names_of_recbole_without_a_config(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("float", "str"):
        monkeypatch.delattr(np, name)
    with pytest.raises(AttributeError):
        Interaction({"a": [1.0, 2.0]})
    assert stack.numpy_names()
    assert Interaction({"a": [1.0, 2.0]})["a"].tolist() == [1.0, 2.0]
    assert not stack.numpy_names()


@pytest.mark.skipif(not hasattr(dok_matrix((1, 1)), "_dict"), reason="before scipy 1.13 dok_matrix is a dict")
def test_dok_matrix_takes_many_entries_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(dok_matrix, "_update")
    matrix = dok_matrix((2, 3), dtype=np.float32)
    with pytest.raises(AttributeError):
        matrix._update({(0, 1): 1})
    assert stack.dok_matrix_update()
    matrix._update({(np.int32(0), np.int32(1)): 1, (1, 2): 2})
    assert matrix.toarray().tolist() == [[0, 1, 0], [0, 0, 2]]
    assert ((matrix > 0).sum(axis=1) == [[1], [1]]).all()


class TestNewRay:
    @pytest.fixture
    def reported(self, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, float]]:
        """Give RecBole a ``tune`` of today's ray; what is reported to it."""
        seen: list[dict[str, float]] = []

        def report(metrics: dict[str, float], *, checkpoint: Any = None) -> None:
            seen.append(metrics)

        tune = ModuleType("ray.tune")
        tune.report = report  # type: ignore[attr-defined]
        monkeypatch.setattr(quick_start, "tune", tune)
        return seen

    def test_metrics_arrive_as_one_dict(self, reported: list[dict[str, float]]) -> None:
        result = {"ndcg@10": 0.5, "hit@10": 0.7}
        with pytest.raises(TypeError):
            quick_start.tune.report(**result)
        assert stack.new_ray()
        quick_start.tune.report(**result)
        assert reported == [result]
        assert not stack.new_ray()


@pytest.mark.slow
class TestNoRay:
    def test_recbole_alone_needs_ray(self, python: Python) -> None:
        run = python("import sys; sys.modules['ray'] = None; import recbole.quick_start")
        assert run.returncode != 0
        assert "ray" in run.stderr

    @pytest.mark.parametrize("missing", ["ray", "pkg_resources"])
    def test_quick_start_works_and_nobody_else_sees_a_ray(self, python: Python, missing: str) -> None:
        run = python(
            f"import sys; sys.modules[{missing!r}] = None\n"
            "import recbole_sce\n"
            "from recbole.quick_start import quick_start, run_recbole\n"
            "from recbole_sce import compat\n"
            "quick_start.tune.report(ndcg=0.5)\n"
            f"assert sys.modules[{missing!r}] is None\n"
            "assert 'ray.tune' not in sys.modules\n"
            "print('no_ray' in [patch.name for patch in compat.active()])\n"
        )
        assert run.stdout.strip() == "True", run.stderr


def test_patches_are_applied_once_and_listed() -> None:
    before = Config._init_device, compat.active()
    compat.apply()
    assert (Config._init_device, compat.active()) == before
    listed = {patch.name: patch for patch in compat.active()}
    assert listed["use_gpu_false"].purpose == "Select the CPU for ``use_gpu: False``."
    assert listed["use_gpu_false"].needed == "always"
    in_order = [patch.name for patch in (*compat.BEFORE_RECBOLE, *compat.PATCHES)]
    assert len(set(in_order)) == len(in_order)
    assert list(listed) == [name for name in in_order if name in listed]


@pytest.mark.parametrize("patch", [*compat.BEFORE_RECBOLE, *compat.PATCHES], ids=lambda patch: patch.name)
def test_a_patch_says_what_it_mends(patch: Patch) -> None:
    assert patch.purpose.endswith(".")
    assert patch.symptom
    assert patch.cause
    assert patch.needed
    assert patch.link.startswith("https://") or not patch.link
    assert re.search(r"\.py|: import|ray 2", patch.where)


def test_the_documentation_lists_all_patches() -> None:
    page = Path(__file__).parent.parent.parent / "docs" / "reference" / "patches.md"
    written = page.read_text(encoding="utf-8").split("python -m recbole_sce.compat. -->\n\n")[1]
    assert written == markdown([*compat.BEFORE_RECBOLE, *compat.PATCHES])


def test_a_function_is_replaced_wherever_it_was_imported_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    home, user, other = ModuleType("home"), ModuleType("user"), ModuleType("other")
    home.work = user.work = lambda x: x + 1  # type: ignore[attr-defined]
    other.work = len  # type: ignore[attr-defined]
    for module in (home, user, other):
        monkeypatch.setitem(__import__("sys").modules, f"{__name__}.{module.__name__}", module)
    patching.wrap_everywhere(home, "work")(lambda original, x: 10 * original(x))
    assert home.work(1) == user.work(1) == 20  # type: ignore[attr-defined]
    assert other.work is len  # type: ignore[attr-defined]


class TestAnomalyDetection:
    def test_recbole_turns_it_on_and_the_plugin_off(self, python: Any) -> None:
        code = (
            "import importlib, sys, torch\n"
            "import recbole_sce\n"
            "print(torch.is_anomaly_enabled())\n"
            "name = 'recbole.model.sequential_recommender.sine'\n"
            "del sys.modules[name]; importlib.import_module(name)  # as RecBole does it\n"
            "print(torch.is_anomaly_enabled())"
        )
        assert python(code).stdout.split()[-2:] == ["False", "True"]

    def test_a_users_own_choice_stays(self, python: Any) -> None:
        code = (
            "import torch; torch.autograd.set_detect_anomaly(True)\n"
            "import recbole_sce; print(torch.is_anomaly_enabled())"
        )
        assert python(code).stdout.split()[-1] == "True"
