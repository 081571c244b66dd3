"""The page: what is in it, that it needs nothing else, and that a browser draws it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from recbole_sce.experiments.comparison import Comparison
from recbole_sce.experiments.report import report, write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def without_scripts(text: str) -> str:
    return re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)


def test_the_best_are_marked_and_the_failed_told(comparison: Comparison) -> None:
    text = without_scripts(report(comparison))
    rows = re.findall(r"<tr><td>SASRecSCE</td>(.*?)</tr>", text)
    assert re.match(r"<td class=best>0\.\d{4} ± 0\.\d{4}</td><td class=best>", rows[0])
    assert re.search(r"<td>Pop &amp; Co_1</td><td>0\.\d{4} ± 0\.\d{4}\*</td>", text)
    assert "<b>Broken</b>, seed 1: ValueError: &lt;no&gt;" in text
    assert "4 of 5 runs finished" in text
    assert "peak resident<br>[MiB]" in text
    assert "a processor" in text


def test_nothing_is_loaded_from_elsewhere(comparison: Comparison) -> None:
    text = report(comparison)
    assert not re.search(r"<(script|img|iframe)[^>]*\ssrc=|<link|@import|url\(http", text)


def test_a_comparison_without_a_result_has_a_page(comparison: Comparison) -> None:
    text = report(replace(comparison, records=comparison.failed()))
    assert "ValueError: &lt;no&gt;" in text
    assert "plot-memory" not in text


def test_axes_of_seconds_are_logarithmic_if_wide(comparison: Comparison) -> None:
    assert "training time [s]" in report(comparison)
    record = comparison.records[0]
    slow = {**record, "seconds": {**record["seconds"], "training": 1000.0}}
    wide = report(replace(comparison, records=[slow, *comparison.records[2:4]]))
    assert "training time [s, logarithmic]" in wide


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_a_browser_draws_it_without_a_network(comparison: Comparison, tmp_path: Path) -> None:
    page = write_report(comparison)
    options = [
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *("--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={tmp_path / 'profile'}"),
        *("--window-size=1300,2000", "--virtual-time-budget=10000", "--dump-dom"),
    ]
    # Into a file: helpers of a browser that hangs would hold a pipe open.
    with open(tmp_path / "dom.html", "wb") as file:
        browser = subprocess.Popen(
            [str(CHROMIUM), *options, page.as_uri()],
            stdout=file,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            browser.wait(timeout=120)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(browser.pid, signal.SIGKILL)
    dom = (tmp_path / "dom.html").read_text(encoding="utf-8")
    for name in ("memory", "seconds", "curves"):
        drawn = dom[dom.index(f'id="plot-{name}"') :]
        drawn = drawn[: drawn.index("</script>")]
        assert 'class="main-svg"' in drawn, name
        assert re.search(r'class="legendtext[^>]*>SASRecSCE<', drawn), name
        assert re.search(r'class="xtitle"[^>]*>[^<]*\[(MiB|s|s, logarithmic)\]<', drawn), name
        assert re.search(r'class="ytitle"[^>]*>(test|validation) ndcg@10<', drawn), name
        assert drawn.count('class="point') >= 6, name
