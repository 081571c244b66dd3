"""The page: what is in it, that it needs nothing else, and that a browser draws it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from browser import draw, needs_chromium

from recbole_sce.experiments.comparison import Comparison
from recbole_sce.experiments.plots import page
from recbole_sce.experiments.report import report, write_report


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
@needs_chromium
def test_a_browser_draws_it_and_nothing_is_missing(comparison: Comparison, tmp_path: Path) -> None:
    drawn = draw(write_report(comparison), tmp_path)
    assert drawn.console == []
    for name in ("memory", "seconds", "curves"):
        plot = drawn.dom[drawn.dom.index(f'id="plot-{name}"') :]
        plot = plot[: plot.index("</script>")]
        assert 'class="main-svg"' in plot, name
        legend = re.findall(r'class="legendtext[^>]*>([^<]*)<', plot)
        assert legend == ["SASRecSCE", "Pop &amp; Co_1"], name
        assert re.search(r'class="xtitle"[^>]*>[^<]*\[(MiB|s|s, logarithmic)\]<', plot), name
        assert re.search(r'class="ytitle"[^>]*>(test|validation) ndcg@10<', plot), name
        assert len(re.findall(r'<path[^>]*class="point[" ]', plot)) >= 6, name


@pytest.mark.slow
@needs_chromium
def test_a_browser_tells_of_what_a_page_asks_the_network_for(tmp_path: Path) -> None:
    """A page may load nothing but itself, and what it tries all the same is seen here."""
    greedy = "<script>fetch('https://recbole.io/')</script><img src='https://recbole.io/logo.png'>"
    text = page("page.html", "greedy").replace("</body>", f"{greedy}</body>")
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    console = "\n".join(draw(tmp_path / "page.html", tmp_path).console)
    for asked in ("https://recbole.io/'", "https://recbole.io/logo.png'"):
        assert f"{asked} violates the following Content Security Policy" in console
