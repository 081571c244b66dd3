"""Files that order their reader to make a folder: what a loader must refuse."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

Payload = Callable[[Path], bytes]


class Call:
    """Pickled, it is a call of ``function`` with ``arguments``, made by whoever reads it."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def _text(path: Path) -> bytes:
    return b"V" + str(path).encode("raw_unicode_escape") + b"\n"


#: The same order by each opcode that can call something, and by the usual functions under each protocol.
OPCODES: dict[str, Payload] = {
    "REDUCE, protocol 0": lambda path: b"cos\nmkdir\n(" + _text(path) + b"tR.",
    "INST, protocol 0": lambda path: b"(" + _text(path) + b"ios\nmkdir\n.",
    "OBJ, protocol 1": lambda path: b"(cos\nmkdir\n" + _text(path) + b"o.",
    "NEWOBJ, protocol 2": lambda path: (
        b"\x80\x02cbuiltins\ntuple\n(cbuiltins\nmap\n(cos\nmkdir\n](" + _text(path) + b"et\x81t\x81."
    ),
    "NEWOBJ_EX, protocol 4": lambda path: (
        b"\x80\x04cbuiltins\ntuple\n(cbuiltins\nmap\n(cos\nmkdir\n](" + _text(path) + b"et}\x92t}\x92."
    ),
    "BUILD, protocol 2": lambda path: (
        b"\x80\x02crecbole.data.transform\nEqual\n)\x81}(V__setstate__\ncos\nmkdir\nub" + _text(path) + b"b."
    ),
    "STACK_GLOBAL, protocol 4": lambda path: b"\x80\x04\x8c\x02os\x8c\x05mkdir\x93(" + _text(path) + b"tR.",
    "eval, protocol 5": lambda path: pickle.dumps(Call(eval, f"__import__('os').mkdir({str(path)!r})"), 5),
    **{
        f"os.system, protocol {protocol}": lambda path, protocol=protocol: pickle.dumps(
            Call(os.system, f"mkdir '{path}'"), protocol
        )
        for protocol in range(6)
    },
}


def as_legacy_torch_file(payload: bytes) -> bytes:
    """Return ``payload`` as the object in a file of torch before 1.6."""
    stream = io.BytesIO()
    torch.save(0, stream, _use_new_zipfile_serialization=False)
    stream.seek(0)
    for _ in range(3):  # magic number, protocol, system
        pickle.load(stream)
    return stream.getvalue()[: stream.tell()] + payload


def as_torch_file(payload: bytes) -> bytes:
    """Return ``payload`` as the object in a file of torch from 1.6 on."""
    stream, changed = io.BytesIO(), io.BytesIO()
    torch.save(0, stream)
    with zipfile.ZipFile(stream) as old, zipfile.ZipFile(changed, "w") as new:
        for name in old.namelist():
            new.writestr(name, payload if name.endswith("/data.pkl") else old.read(name))
    return changed.getvalue()


def as_tar_torch_file(payload: bytes) -> bytes:
    """Return ``payload`` as the first thing that is read of a file of torch before 0.1.10."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:") as archive:
        for name in ("storages", "tensors", "pickle"):
            entry = tarfile.TarInfo(name)
            entry.size = len(payload)
            archive.addfile(entry, io.BytesIO(payload))
    return stream.getvalue()


def as_tar_and_zip(payload: bytes) -> bytes:
    """Return a tar file for those who look at its begin, and a harmless zip for those who look at its end."""
    return as_tar_torch_file(payload) + as_torch_file(pickle.dumps({}, 2))


#: The kinds of files that torch.load reads.
TORCH_FILES: dict[str, Callable[[bytes], bytes]] = {
    "zip": as_torch_file,
    "legacy": as_legacy_torch_file,
    "tar": as_tar_torch_file,
    "tar and zip": as_tar_and_zip,
}
