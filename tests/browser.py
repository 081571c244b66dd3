"""A page as a headless Chromium draws it, where one is installed."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

_CHROMIUM = next(
    filter(
        None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"))
    ),
    None,
)
_OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",  # containers have little of it
    "--window-size=1300,2000",
    "--virtual-time-budget=10000",
    "--enable-logging=stderr",
    "--dump-dom",
)

needs_chromium = pytest.mark.skipif(_CHROMIUM is None, reason="no Chromium is installed")


class Drawn(NamedTuple):
    """What a page is once its scripts have run.

    Attributes:
        dom: its elements.
        console: what the browser's console says: errors, and what the page tried to load and may not.
    """

    dom: str
    console: list[str]


def draw(page: Path, folder: Path) -> Drawn:
    """Open ``page`` in a browser of its own, whose profile and output are in ``folder``."""
    dom, log = folder / "dom.html", folder / "browser.log"
    command = [str(_CHROMIUM), *_OPTIONS, f"--user-data-dir={folder / 'profile'}", page.absolute().as_uri()]
    # Into files: helpers of a browser that hangs would hold a pipe open.
    with open(dom, "wb") as out, open(log, "wb") as err:
        browser = subprocess.Popen(command, stdout=out, stderr=err, start_new_session=True)
        try:
            browser.wait(timeout=300)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(browser.pid, signal.SIGKILL)
    messages = log.read_text(encoding="utf-8", errors="replace")
    text = dom.read_text(encoding="utf-8")
    assert "</html>" in text, f"the browser ended with {browser.returncode}: {messages[-2000:]}"
    return Drawn(text, re.findall(r":CONSOLE[^\]]*\] (.*)", messages))
