"""RecBole's own tests with and without recbole_sce imported, compared test by test.

Point it at a checkout of RecBole::

    git clone --branch v1.2.1 https://github.com/RUCAIBox/RecBole ../RecBole
    python benchmarks/recbole_suite.py --checkout ../RecBole

Each file of tests runs in two fresh processes, in a copy of the checkout: one as it is, one with
``pytest -p recbole_sce``. A test that passes without the plugin must pass with it: the exit code is 1 if one
does not. Tests that only pass with it are counted apart. With ``--out``, files that are done are not run
again, so that a run which was interrupted goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest

#: Of RecBole's tests, those of what the plugin touches; of the models, the sequential ones.
TESTS = (
    "tests/config/test_config.py",
    "tests/config/test_overall.py",
    "tests/config/test_command_line.py",
    "tests/data/test_dataset.py",
    "tests/data/test_dataloader.py",
    "tests/data/test_transform.py",
    "tests/evaluation_setting/test_evaluation_setting.py",
    "tests/metrics/test_loss_metrics.py",
    "tests/metrics/test_rank_metrics.py",
    "tests/metrics/test_topk_metrics.py",
    "tests/hyper_tuning/test_hyper_tuning.py",
    "tests/model/test_model_auto.py::TestSequentialRecommender",
    "tests/model/test_model_manual.py",
)
#: No test but a script, with the arguments that RecBole's run_test.sh gives it.
SCRIPTS = {
    "tests/config/test_command_line.py": (
        "--use_gpu=False",
        "--valid_metric=Recall@10",
        "--metrics=['Recall']",
        "--epochs=200",
        "--learning_rate=0.3",
    )
}
PLUGIN = "recbole_sce"
#: Where the process that runs the tests writes each outcome, and how long a test may take.
_OUTCOMES, _LIMIT = "RECBOLE_SUITE_OUTCOMES", "RECBOLE_SUITE_LIMIT"

Outcomes = dict[str, tuple[str, str]]  # of each test: passed, failed or skipped; and why
SIDES = ("without", "with")


# In the process that runs the tests, where pytest loads this file as a plugin


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Let a test fail that computes for longer than the limit, or lasts ten times as long."""
    limit = int(os.environ[_LIMIT])

    def stop(*_: Any) -> None:
        raise TimeoutError(f"not finished after {limit} s of computing")

    timers = (signal.ITIMER_PROF, limit, signal.SIGPROF), (signal.ITIMER_REAL, 10 * limit, signal.SIGALRM)
    for timer, seconds, number in timers:
        signal.signal(number, stop)
        signal.setitimer(timer, seconds)
    yield
    for timer, _, _ in timers:
        signal.setitimer(timer, 0)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Write an outcome down at once: a crash leaves those of the tests before it."""
    if report.when == "call" or report.outcome != "passed":
        _write_down(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """A file that cannot be imported counts as one failed test."""
    if report.failed:
        _write_down(report)


def _write_down(report: Any) -> None:
    crash = getattr(report.longrepr, "reprcrash", None)
    reason = crash.message if crash is not None else str(report.longrepr or "")
    lines = [line for line in reason.strip().splitlines() if line.strip()]
    with open(os.environ[_OUTCOMES], "a", encoding="utf-8") as file:
        reason_line = lines[0 if crash is not None else -1] if lines else ""
        file.write(json.dumps([report.nodeid, report.outcome, reason_line]) + "\n")


# In the process that compares


def run_tests(checkout: Path, test: str, side: str, limit: int) -> Outcomes:
    """Run the tests of one file in a process of their own, in a copy of the checkout."""
    print(f"{side} {PLUGIN}: {test}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as name:
        for part in ("recbole", "tests"):
            shutil.copytree(checkout / part, Path(name, part), ignore=shutil.ignore_patterns("__pycache__"))
        run = _run_script if test in SCRIPTS else _run_file
        return run(Path(name), test, side == "with", limit)


def _environment(folder: Path, limit: int) -> dict[str, str]:
    here = str(Path(__file__).resolve().parent)
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(folder), here]),
        _OUTCOMES: str(folder / "outcomes"),
        _LIMIT: str(limit),
    }


def _run_file(folder: Path, test: str, with_plugin: bool, limit: int) -> Outcomes:
    file = folder / "outcomes"
    # No argument with an equals sign: RecBole takes those for settings.
    command = [sys.executable, "-m", "pytest", "-q", "-p", "recbole_suite", "-p", "no:cacheprovider"]
    if with_plugin:
        command += ["-p", PLUGIN]
    done = subprocess.run(
        [*command, test], cwd=folder, env=_environment(folder, limit), capture_output=True, text=True
    )
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    outcomes: Outcomes = {name: (outcome, reason) for name, outcome, reason in map(json.loads, lines)}
    explained = outcomes and done.returncode == pytest.ExitCode.INTERRUPTED  # a file that cannot be imported
    if done.returncode not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) and not explained:
        outcomes[test] = ("failed", _last_line(done) or f"pytest ended with code {done.returncode}")
    return outcomes


def _run_script(folder: Path, test: str, with_plugin: bool, limit: int) -> Outcomes:
    code = f"import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path({test!r}, run_name='__main__')"
    if with_plugin:
        code = f"import {PLUGIN}; {code}"
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, test, *SCRIPTS[test]],
            cwd=folder,
            env=_environment(folder, limit),
            capture_output=True,
            text=True,
            timeout=limit,
        )
    except subprocess.TimeoutExpired:
        return {test: ("failed", f"not finished after {limit} s")}
    return {test: ("passed", "") if done.returncode == 0 else ("failed", _last_line(done))}


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
    return lines[-1] if lines else ""


def differences(without: Outcomes, with_plugin: Outcomes) -> dict[str, list[str]]:
    """Return the tests by what the plugin makes of them.

    ``same``: the same outcome. ``broken``: passes without the plugin only. ``repaired``: passes with it only.
    ``other``: what is left, such as a test that is skipped on one side and fails on the other.
    """
    by_kind: dict[str, list[str]] = {"same": [], "broken": [], "repaired": [], "other": []}
    for test in sorted({*without, *with_plugin}):
        before = without.get(test, ("missing", ""))[0]
        after = with_plugin.get(test, ("missing", ""))[0]
        if before == after:
            kind = "same"
        elif before == "passed":
            kind = "broken"
        else:
            kind = "repaired" if after == "passed" else "other"
        by_kind[kind].append(test)
    return by_kind


def report(without: Outcomes, with_plugin: Outcomes) -> str:
    """Return counts, and each difference with the reasons of both sides."""
    by_kind = differences(without, with_plugin)
    lines = ["versions: " + ", ".join(f"{name} {number}" for name, number in versions().items()), ""]
    lines += ["| tests | without | with |", "|---|---|---|"]
    counts = [_counts(side) for side in (without, with_plugin)]
    for file in sorted({*counts[0], *counts[1]}):
        lines.append(f"| {file} | {_told(counts[0].get(file))} | {_told(counts[1].get(file))} |")
    totals = [sum(side.values(), Counter()) for side in counts]
    lines += [f"| all | {_told(totals[0])} | {_told(totals[1])} |", ""]
    lines += [", ".join(f"{kind}: {len(tests)}" for kind, tests in by_kind.items())]
    for kind in ("broken", "other", "repaired"):
        for test in by_kind[kind]:
            lines += [f"{kind}: {test}"]
            for name, side in (("without", without), ("with", with_plugin)):
                outcome, reason = side.get(test, ("missing", ""))
                lines += [f"    {name}: {outcome} {reason}".rstrip()]
    return "\n".join(lines)


def _counts(outcomes: Outcomes) -> dict[str, Counter[str]]:
    counts: dict[str, Counter[str]] = {}
    for test, (outcome, _) in outcomes.items():
        counts.setdefault(test.split("::")[0], Counter())[outcome] += 1
    return counts


def _told(counts: Mapping[str, int] | None) -> str:
    return ", ".join(f"{number} {outcome}" for outcome, number in sorted((counts or {}).items())) or "none"


def versions() -> dict[str, str]:
    """Return the versions that the outcomes depend on."""
    numbers = {"python": platform.python_version()}
    for name in (PLUGIN, "torch", "numpy", "pandas", "scipy", "hyperopt", "ray"):
        try:
            numbers[name] = version(name)
        except PackageNotFoundError:
            numbers[name] = "absent"
    return numbers


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkout", type=Path, required=True, help="folder with recbole/ and tests/")
    parser.add_argument("--timeout", type=int, default=300, help="seconds a test may compute (default 300)")
    parser.add_argument("--out", type=Path, help="keep all outcomes in this file, and go on from there")
    parser.add_argument("tests", nargs="*", help=f"tests of the checkout (default: {' '.join(TESTS)})")
    options = parser.parse_args()
    for part in ("recbole", "tests"):
        if not (options.checkout / part).is_dir():
            parser.error(f"--checkout: {options.checkout} has no folder {part}, so it is no RecBole checkout")
    kept: dict[str, dict[str, Outcomes]] = {}
    if options.out is not None and options.out.exists():
        kept = json.loads(options.out.read_text(encoding="utf-8"))
    tests = options.tests or TESTS
    for test in tests:
        for side in SIDES:
            if side not in kept.setdefault(test, {}):
                kept[test][side] = run_tests(options.checkout, test, side, options.timeout)
                if options.out is not None:
                    options.out.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
    without, with_plugin = (
        {name: (outcome, reason) for test in tests for name, (outcome, reason) in kept[test][side].items()}
        for side in SIDES
    )
    print(report(without, with_plugin))
    return 1 if differences(without, with_plugin)["broken"] else 0


if __name__ == "__main__":
    sys.exit(main())
