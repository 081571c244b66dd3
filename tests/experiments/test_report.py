"""The page: what is in it, that it needs nothing else, and that a browser draws it."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace

from recbole_sce.experiments.comparison import Comparison
from recbole_sce.experiments.report import report

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
