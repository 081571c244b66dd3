"""A file of finished trials: what is in it survives whatever happens to the process that wrote it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_sce.experiments.spec import ExperimentError, changes


class Journal:
    """JSON lines: first what is searched, then one line a finished trial, on disk before it is believed.

    Args:
        path: the file.
        header: what is searched; a file that was begun with another is not continued.
        resume: go on with the file if it is there.

    Raises:
        ExperimentError: the file is there and ``resume`` is false, or its header is another one.
    """

    def __init__(self, path: Path, header: Mapping[str, Any], resume: bool) -> None:
        self._path = path
        #: The finished trials, in the order in which they finished.
        self.trials: list[dict[str, Any]] = []
        header = json.loads(json.dumps(header))
        if path.exists() and not resume:
            raise ExperimentError(
                f"{path} holds a search already: go on with it by --resume (resume=True), or name "
                "another folder"
            )
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        if lines and not lines[-1].endswith(b"\n"):  # the process ended while it wrote this line
            lines.pop()
            with open(path, "rb+") as file:
                file.truncate(sum(map(len, lines)))
        if not lines:
            self._write(header)
            return
        changed = changes(json.loads(lines[0]), header)
        if changed:
            raise ExperimentError(
                f"{path} holds another search: {'; '.join(changed)}. Trials of both cannot be compared: name "
                "another folder"
            )
        self.trials = [json.loads(line) for line in lines[1:]]

    def add(self, trial: Mapping[str, Any]) -> None:
        """Keep a finished trial."""
        self._write(trial)
        self.trials.append(dict(trial))

    def _write(self, content: Mapping[str, Any]) -> None:
        line = json.dumps(content) + "\n"
        with open(self._path, "ab") as file:
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
