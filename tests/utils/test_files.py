"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import resource
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from recbole_sce.utils.files import unfinished, whole_file


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    return path


@contextmanager
def full_disk() -> Iterator[None]:
    """Let no file grow beyond 4 KiB: the system then refuses a write as it does on a full disk.

    Only within the block: the file that the suite's own output goes to is longer.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


def test_the_content_appears_when_the_block_ends(file: Path) -> None:
    with whole_file(file) as stream:
        stream.write(b"new")
        stream.flush()
        assert file.read_bytes() == b"old"
    assert file.read_bytes() == b"new"
    assert list(file.parent.iterdir()) == [file]


def test_content_is_on_the_disk_before_its_name_and_the_name_before_all_goes_on(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[str] = []
    fsync, rename = os.fsync, os.replace

    def noted_fsync(descriptor: int) -> None:
        happened.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "content")
        fsync(descriptor)

    def noted_rename(source: Path, target: Path) -> None:
        happened.append("name")
        assert Path(source).parent == Path(target).parent  # else it would be a copy
        rename(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_rename)
    with whole_file(file) as stream:
        stream.write(b"new")
    assert happened == ["content", "name", "folder"]


def test_a_block_that_fails_leaves_all_as_it_was(file: Path) -> None:
    def write_and_fail() -> None:
        with whole_file(file) as stream:
            stream.write(b"new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_and_fail()
    assert file.read_bytes() == b"old"
    assert list(file.parent.iterdir()) == [file]


def test_a_full_disk_leaves_all_as_it_was(file: Path) -> None:
    with pytest.raises(OSError, match="too large"), full_disk(), whole_file(file) as stream:
        stream.write(b"x" * 10_000)
    assert file.read_bytes() == b"old"
    assert list(file.parent.iterdir()) == [file]


def test_a_new_file_has_the_permissions_that_the_user_gives_to_files(tmp_path: Path) -> None:
    with whole_file(tmp_path / "new") as stream:
        stream.write(b"new")
    (tmp_path / "other").write_bytes(b"new")
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_what_a_killed_process_left_is_known_from_what_others_write(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        with whole_file(tmp_path / "a.pth") as stream:
            stream.write(b"new")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    for other in (".a.pth.backup.tmp", ".ba.pth.12.tmp", "a.pth.12.tmp", "a-last.pth"):
        (tmp_path / other).touch()
    assert unfinished(tmp_path / "a.pth") == [tmp_path / f".a.pth.{child}.tmp"]
    assert not (tmp_path / "a.pth").exists()
