"""Saved data sets and data loaders that load without running code.

RecBole pickles whole objects (``save_dataset``, ``save_dataloaders``) and unpickles whatever it finds under
their names. Here such a file is read in two steps. The first takes down what the file says: every class and
function that it names is read as a record of its arguments and state, and a name that no such file needs
is refused. The second builds the objects from these records: plain data, arrays, tensors and tables by our
own hand, objects of RecBole's classes by filling their ``__dict__``; nothing that the file names is called.
"""

from __future__ import annotations

import inspect
import io
import logging
import pickle
import re
import types
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable
from enum import Enum
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import torch

from recbole_sce.errors import RecboleSCEError
from recbole_sce.safe_io import checkpoints
from recbole_sce.safe_io.saved_classes import bases, class_named

#: What a ``defaultdict`` may make of a missing key.
_FACTORIES: dict[str, type] = {
    f"builtins.{kind.__name__}": kind for kind in (int, float, str, list, dict, set)
}
_ATOMS = (type(None), bool, int, float, complex, str, bytes, bytearray, range)
#: A dtype as numpy names it in a pickle, without byte order and without fields.
_DTYPE = re.compile(r"[?bBhHiIlLqQefdgFDO]|[biufcSUVO]\d+")


class SavedDataError(RecboleSCEError, pickle.UnpicklingError):
    """A saved data set or data loader that is not read: it would run code, or it is damaged."""


def load_saved(file: BinaryIO) -> Any:
    """Read what ``Dataset.save`` or ``save_split_dataloaders`` wrote to an open ``file``.

    Raises:
        SavedDataError: the file names something that is not allowed, or is damaged.
    """
    name = getattr(file, "name", "the file")
    records = _Records(file)
    try:
        try:
            content = records.load()
        except (_Refused, OSError):
            raise
        except Exception as error:
            raise SavedDataError(
                f"{name} is no complete saved data set: its writing was interrupted, or RecBole did not "
                f"write it ({type(error).__name__}: {error})"
            ) from None
        # The bytes of a tensor are read by torch.load, which shall know no name but torch's own.
        with checkpoints._only_allowed([]):
            return _Builder().build(content)
    except _Refused as refused:
        raise SavedDataError(
            f"{name} was refused, and nothing in it was run: {refused}, which no saved data set needs. If "
            "that is a class of your own, import it (a model: recbole_sce.register_model) before loading; "
            "otherwise delete this file"
        ) from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, RuntimeError) as error:
        raise SavedDataError(
            f"{name} was refused, and nothing in it was run: it is not what RecBole writes ({error})"
        ) from None


def dump_saved(content: Any, file: BinaryIO) -> None:
    """Write ``content`` as ``pickle.dump`` does, with tables as their columns."""
    _Writer(file).dump(content)


class _Writer(pickle.Pickler):
    def reducer_override(self, item: Any) -> Any:
        if type(item) is pd.DataFrame:
            columns = {name: item[name].to_numpy() for name in item}
            default = isinstance(item.index, pd.RangeIndex) and item.index.equals(pd.RangeIndex(len(item)))
            return pd.DataFrame, (columns, None if default else item.index.to_numpy())
        return NotImplemented


class _Refused(Exception):
    """Says what in a file is not allowed."""


# What a file says


class _Record:
    """An object as the file describes it: the name of its class or function, its arguments and its state."""

    full_name: str

    def __new__(cls, *args: Any) -> _Record:
        record = super().__new__(cls)
        record.args = args
        record.state = None
        record.pairs = []
        return record

    def __init__(self, *_: Any) -> None:
        self.args: tuple[Any, ...]
        self.state: Any
        self.pairs: list[tuple[Any, Any]]

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.pairs.append((key, value))


class _Records(pickle.Unpickler):
    """Reads every name in a file as a fresh class of records, which nothing else knows."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self._known: dict[str, type[_Record]] = {}

    def find_class(self, module: str, name: str) -> type[_Record]:
        full_name = f"{module}.{name}".replace("numpy.core.", "numpy._core.", 1)
        if full_name not in self._known:
            if full_name not in _BUILDERS and full_name not in _MARKS and class_named(full_name) is None:
                raise _Refused(f"it names {module}.{name}")
            self._known[full_name] = type(name, (_Record,), {"full_name": full_name})
        return self._known[full_name]


# What it stands for


class _Builder:
    """Builds the objects that records describe; what a file refers to twice is built once."""

    def __init__(self) -> None:
        self._built: dict[int, Any] = {}  # by the id of what was read, which the root keeps alive

    def build(self, read: Any) -> Any:
        """Return what ``read``, plain data with records in it, stands for."""
        kind = type(read)
        if kind in _ATOMS:
            return read
        if id(read) in self._built:
            return self._built[id(read)]
        if kind is list:
            items = self._keep(read, [])
            items.extend(map(self.build, read))
            return items
        if kind is dict:
            pairs = self._keep(read, {})
            pairs.update((self.build(key), self.build(value)) for key, value in read.items())
            return pairs
        if kind in (tuple, set, frozenset):
            return self._keep(read, kind(map(self.build, read)))
        if isinstance(read, _Record):
            return self._object(read)
        raise _Refused(f"it mentions {getattr(read, 'full_name', kind.__name__)} out of place")

    def _keep(self, read: Any, built: Any) -> Any:
        self._built[id(read)] = built
        return built

    def _object(self, record: _Record) -> Any:
        make = _BUILDERS.get(record.full_name)
        if make is not None:
            return self._keep(record, make(self, record))
        cls = class_named(record.full_name)
        if issubclass(cls, Enum):
            return self._keep(record, cls(*map(self.build, record.args)))
        if record.args or not issubclass(cls, bases()):
            raise _Refused(f"it calls {record.full_name}")
        owner = self._keep(record, object.__new__(cls))
        owner.__dict__.update(self._state(owner, record))
        return owner

    def _state(self, owner: Any, record: _Record) -> dict[str, Any]:
        from recbole.config import Config

        if not isinstance(record.state, (dict, type(None))):
            raise _Refused(f"it gives {record.full_name} a state that is no dict")
        state = {}
        for key, read in (record.state or {}).items():
            own = inspect.getattr_static(type(owner), key, None)
            if isinstance(owner, Config) and isinstance(read, type) and issubclass(read, _Record):
                value = checkpoints._real(read.full_name)  # the model's class, yaml's loader
            else:
                value = self.build(read)
            # collate_fn of a data loader is its own method once more; nothing else replaces behaviour
            is_itself = isinstance(value, types.MethodType) and value.__func__ is own
            if (callable(own) or hasattr(own, "__get__")) and not is_itself:
                raise _Refused(f"it replaces {record.full_name}.{key}")
            state[key] = value
        return state

    # One method a name. Arguments are those of the function in the file.

    def ordered_dict(self, record: _Record) -> Any:
        mapping = OrderedDict(*map(self.build, record.args))
        mapping.update((self.build(key), self.build(value)) for key, value in record.pairs)
        return mapping

    def default_dict(self, record: _Record) -> Any:
        """Return the ``defaultdict`` in which a data set of several files keeps how long its columns are."""
        factory, *content = record.args or (None,)
        if factory is not None and _name_of(factory) not in _FACTORIES:
            raise _Refused(f"it makes missing values by {_name_of(factory)}")
        made: Any = self._keep(
            record, defaultdict(None if factory is None else _FACTORIES[_name_of(factory)])
        )
        for read in content:
            made.update(self.build(read))
        made.update((self.build(key), self.build(value)) for key, value in record.pairs)
        return made

    def attribute(self, record: _Record) -> Any:
        """Return what ``getattr`` is pickled for: a member of an enum, or a data loader's own method."""
        from recbole.data.dataloader import AbstractDataLoader

        target, name = record.args
        if isinstance(target, type) and issubclass(target, _Record):
            cls = class_named(target.full_name)
            if isinstance(cls, type) and issubclass(cls, Enum):
                return cls[name]
        elif isinstance(target, _Record):
            owner = self.build(target)
            method = inspect.getattr_static(type(owner), name, None)
            if isinstance(owner, AbstractDataLoader) and inspect.isfunction(method):
                return types.MethodType(method, owner)
        raise _Refused(f"it asks for the attribute {name!r} of {_name_of(target)}")

    # numpy

    def dtype(self, record: _Record) -> np.dtype[Any]:
        code = record.args[0]
        if not isinstance(code, str) or _DTYPE.fullmatch(code) is None:
            raise _Refused(f"it names the dtype {code!r}")
        order: Any = record.state[1] if record.state else "="
        dtype = np.dtype(code)
        return dtype.newbyteorder(order) if order in ("<", ">") else dtype

    def scalar(self, record: _Record) -> Any:
        dtype, content = map(self.build, record.args)
        if dtype.hasobject:
            raise _Refused("it holds a numpy scalar of objects")
        return np.frombuffer(content, dtype)[0]

    def array(self, record: _Record) -> Any:
        """Return the array of ``_reconstruct(...)`` with its state: version, shape, dtype, order, content."""
        if _name_of(record.args[0]) != "numpy.ndarray":
            raise _Refused(f"it makes an array of {_name_of(record.args[0])}")
        _, shape, dtype, fortran, content = record.state
        return self._array(content, self.build(dtype), self.build(shape), "F" if fortran else "C", record)

    def buffer(self, record: _Record) -> Any:
        """Return the array of ``_frombuffer(content, dtype, shape, order)``, the form of protocol 5."""
        content, dtype, shape, order = record.args
        return self._array(content, self.build(dtype), self.build(shape), order, record)

    def _array(self, content: Any, dtype: Any, shape: Any, order: Any, record: _Record) -> Any:
        if not dtype.hasobject:
            return np.frombuffer(bytearray(content), dtype).reshape(shape, order=order)
        array = self._keep(record, np.empty(len(content), dtype=object))
        for place, read in enumerate(content):
            array[place] = self.build(read)
        return array if len(array.shape) == len(shape) else array.reshape(shape, order=order)

    # torch

    def storage(self, record: _Record) -> Any:
        (content,) = record.args
        try:
            storage = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        except Exception:  # torch has many words for it
            raise _Refused("the bytes of a tensor hold something else") from None
        if not isinstance(storage, torch.storage.TypedStorage):
            raise _Refused("the bytes of a tensor hold something else")
        return storage

    def tensor(self, record: _Record) -> Any:
        storage, offset, size, stride, requires_grad, *_ = record.args
        storage = self.build(storage)
        rebuild: Any = torch._utils._rebuild_tensor_v2
        flat = rebuild(storage, 0, (storage._size(),), (1,), False, OrderedDict())
        # unlike the function that is named, this one never looks beyond the storage
        tensor = flat.as_strided(self.build(size), self.build(stride), offset)
        return tensor.requires_grad_(bool(requires_grad))

    def device(self, record: _Record) -> torch.device:
        device = torch.device(*map(self.build, record.args))
        no_cuda = device.type == "cuda" and not torch.cuda.is_available()
        return torch.device("cpu") if no_cuda else device

    # pandas

    def frame(self, record: _Record) -> Any:
        """Return a table from its columns (our form) or from the blocks of pandas 1.3 to 2."""
        if record.args:
            columns, index = map(self.build, record.args)
            return pd.DataFrame(columns, index=index)
        blocks, axes = record.state["_mgr"].args
        names, index = map(self.build, axes)
        placed: dict[int, Any] = {}
        for block in blocks:
            values, places, _ = map(self.build, block.args)
            numbers = np.arange(len(names))[places]
            placed.update(zip(numbers.tolist(), values))
        return pd.DataFrame({name: placed[place] for place, name in enumerate(names)}, index=index)

    def index(self, record: _Record) -> Any:
        cls, fields = record.args
        fields = self.build(fields)
        if _name_of(cls) == "pandas.core.indexes.range.RangeIndex":
            return pd.RangeIndex(fields["start"], fields["stop"], fields["step"], name=fields["name"])
        return pd.Index(fields["data"], name=fields["name"])


def _name_of(read: Any) -> str:
    return str(getattr(read, "full_name", type(read).__name__))


def _called(make: Callable[..., Any]) -> Callable[[_Builder, _Record], Any]:
    """Return the builder of what ``make``, which does no harm whatever it gets, returns of the arguments."""
    return lambda builder, record: make(*map(builder.build, record.args))


#: By whom an object is built that is called by this name in a file.
_BUILDERS: dict[str, Callable[[_Builder, _Record], Any]] = {
    "builtins.getattr": _Builder.attribute,
    "builtins.slice": _called(slice),
    "builtins.range": _called(range),
    "builtins.set": _called(set),
    "builtins.frozenset": _called(frozenset),
    "builtins.bytearray": _called(bytearray),
    "collections.OrderedDict": _Builder.ordered_dict,
    "collections.Counter": _called(Counter),
    "collections.defaultdict": _Builder.default_dict,
    "logging.getLogger": _called(logging.getLogger),
    "numpy.dtype": _Builder.dtype,
    "numpy._core.multiarray.scalar": _Builder.scalar,
    "numpy._core.multiarray._reconstruct": _Builder.array,
    "numpy._core.numeric._frombuffer": _Builder.buffer,
    "torch._utils._rebuild_tensor_v2": _Builder.tensor,
    "torch.storage._load_from_bytes": _Builder.storage,
    "torch.device": _Builder.device,
    "pandas.DataFrame": _Builder.frame,  # pandas 3
    "pandas.core.frame.DataFrame": _Builder.frame,
    "pandas.core.indexes.base._new_Index": _Builder.index,
}
#: Names that are arguments or parts of the former, and mean nothing by themselves.
_MARKS = (
    *_FACTORIES,
    "numpy.ndarray",
    "pandas.core.indexes.base.Index",
    "pandas.core.indexes.range.RangeIndex",
    "pandas.core.internals.managers.BlockManager",
    "pandas._libs.internals._unpickle_block",
)
