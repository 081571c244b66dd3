"""A simulated CUDA device: CPU tensors whose storages are marked as lying on ``cuda:0``.

Within ``SimulatedCuda()`` Python code sees a GPU: ``torch.cuda.is_available()`` is true, ``.to("cuda")`` and
``device="cuda"`` give tensors that say ``device(type='cuda', index=0)``, with a generator of its own. All
numbers are real ones, computed on the CPU.

Every ATen operation, those of autograd's backward among them, is checked as CUDA would check it:

* an operation that mixes devices raises :class:`DeviceMismatch`, but for what CUDA allows (0-dimensional CPU
  tensors in element-wise operations, CPU index tensors, copies);
* a generator of the other device raises; so do ``.numpy()`` and ``np.asarray`` of a device tensor;
* what makes the host wait for the device is noted (:attr:`SimulatedCuda.syncs`) with file and line;
* kernel launches are counted by file and line, storage bytes are summed, with their peak.

What it cannot see: what C++ code decides by the device of a tensor (cuDNN's recurrent layers, fused
attention, ``native_dropout``, other algorithms, other rounding), autograd's thread of the device, streams,
time, kernels of Triton, memory that the caching allocator holds, out-of-bounds assertions.

It patches private names of torch (written for torch 2.13). Where one is missing, importing this module
raises ImportError, which the tests take as a reason to be skipped.
"""

from __future__ import annotations

import sys
import weakref
from collections import Counter
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_flatten, tree_map_only

#: Modules that group tensors by device, as C++ sees it.
_GROUPING = ("torch.utils._foreach_utils", "torch.nn.utils.clip_grad", "torch.optim.optimizer")
#: Private names of torch that are patched or used.
_PRIVATE = (
    *((sys.modules[module], "_group_tensors_by_device_and_dtype") for module in _GROUPING),
    (torch.serialization, "_package_registry"),
    (torch._C._nn, "_parse_to"),
    (torch.UntypedStorage, "_cdata"),
)
for _owner, _name in _PRIVATE:
    if not hasattr(_owner, _name):
        raise ImportError(f"the simulated device needs {_owner.__name__}.{_name}, which this torch lacks")

CPU = torch.device("cpu")
_DEVICE = torch.Tensor.device.__get__  # of torch, before anything is patched
aten = torch.ops.aten


class DeviceMismatch(RuntimeError):
    """An operation that a real device would refuse."""


class Sync(NamedTuple):
    """The host waits for the device, or a copy goes between them."""

    kind: str
    where: str
    phase: str


#: Operations whose result's shape, or result, the host has to read. (bincount reads bounds; isin sorts and
#: makes its arguments unique, unless they are short; coalesce makes indices unique.)
_WAITS = {
    "aten::_local_scalar_dense": "item",
    "aten::nonzero": "nonzero",
    "aten::_unique2": "unique",
    "aten::unique_consecutive": "unique_consecutive",
    "aten::unique_dim": "unique",
    "aten::_unique": "unique",
    "aten::masked_select": "masked_select",
    "aten::bincount": "bincount",
    "aten::equal": "equal",
    "aten::is_nonzero": "bool",
    "aten::repeat_interleave": "repeat_interleave",
    "aten::isin": "isin",
    "aten::_coalesce": "coalesce",
    "aten::multinomial": "multinomial",
    "aten::histc": "histc",
    "aten::_to_sparse": "to_sparse",
}
#: About how many kernels an operation takes on CUDA, where it is not one. By reading ATen, not measured.
_KERNELS = {
    "aten::topk": 3, "aten::sort": 5, "aten::argsort": 5, "aten::_unique2": 8, "aten::unique_consecutive": 5,
    "aten::bincount": 5, "aten::nonzero": 3, "aten::isin": 18, "aten::embedding_dense_backward": 6,
    "aten::randperm": 5, "aten::_coalesce": 12, "aten::logsumexp": 4, "aten::baddbmm": 2, "aten::stack": 1,
    "aten::multinomial": 4, "aten::masked_select": 4, "aten::index_put_": 1, "aten::linalg_vecdot": 2,
}  # fmt: skip
#: Operations that launch nothing.
_NOTHING = {
    "aten::empty", "aten::empty_like", "aten::new_empty", "aten::empty_strided", "aten::new_empty_strided",
    "aten::detach", "aten::alias", "aten::lift_fresh", "aten::_unsafe_view", "aten::_reshape_alias",
    "aten::set_", "aten::resize_", "aten::_indices", "aten::_values", "aten::is_coalesced",
    "aten::_coalesced_", "aten::_sparse_coo_tensor_with_dims_and_tensors", "aten::_local_scalar_dense",
    "aten::is_pinned", "aten::unsafe_split", "aten::_sparse_coo_tensor_unsafe", "aten::sym_size",
    "prim::device",
}  # fmt: skip
_INDEXING = {
    "aten::index",
    "aten::index_put_",
    "aten::index_put",
    "aten::_index_put_impl_",
    "aten::_unsafe_index",
}
#: Operations that take a CPU tensor of lengths or the like beside device tensors, as CUDA does.
_TAKES_CPU = {"aten::_pack_padded_sequence", "aten::copy_"}
_RANDOM_FACTORIES = ("rand", "randn", "randint", "randperm", "normal")
_FACTORIES = ("empty", "zeros", "ones", "full", "arange", "linspace", "eye", "tril_indices", "triu_indices",
              "rand", "randn", "randint", "randperm", "empty_strided", "scalar_tensor",
              "empty_like", "zeros_like", "ones_like", "full_like", "rand_like", "randn_like", "randint_like",
              "sparse_coo_tensor", "hann_window")  # fmt: skip
_NEW = ("new_empty", "new_zeros", "new_ones", "new_full")


class SimulatedCuda(TorchDispatchMode):
    """The device; a context manager. ``package`` is the folder name by which places in code are named."""

    def __init__(
        self, n_devices: int = 1, package: str = "recbole_sce", memory_bytes: int = 80 * 2**30
    ) -> None:
        super().__init__()
        self.n_devices, self.package, self.memory_bytes = n_devices, package, memory_bytes
        self.syncs: list[Sync] = []
        self.operations: Counter[tuple[str, str, str]] = Counter()  # (phase, where, operation)
        self.launches: Counter[tuple[str, str, str]] = Counter()
        self.phase_name = ""
        self.allocated = self.peak = 0
        self.current = 0
        self.generators = [torch.Generator().manual_seed(1234 + n) for n in range(n_devices)]
        self._stack = ExitStack()

    # Places

    @contextmanager
    def phase(self, name: str) -> Any:
        """Note what happens within under ``name``."""
        before, self.phase_name = self.phase_name, name
        try:
            yield self
        finally:
            self.phase_name = before

    def _where(self) -> str:
        frame, outer = sys._getframe(2), None
        while frame is not None:
            name = frame.f_code.co_filename
            if f"/{self.package}/" in name:
                return f"{name.rsplit(f'/{self.package}/', 1)[1]}:{frame.f_lineno}"
            if outer is None and "/torch/" not in name and name != __file__ and "<" not in name:
                outer = f"{'/'.join(name.rsplit('/', 2)[1:])}:{frame.f_lineno}"
            frame = frame.f_back
        return outer or "?"

    def note_sync(self, kind: str) -> None:
        """Note that the host waits."""
        self.syncs.append(Sync(kind, self._where(), self.phase_name))

    def _note_launch(self, name: str, kernels: int) -> None:
        key = self.phase_name, self._where(), name
        self.operations[key] += 1
        self.launches[key] += kernels

    def total(self, phase: str, what: str = "launches") -> int:
        """Return how many launches (or operations) a phase has had."""
        return sum(number for (of, _, _), number in getattr(self, what).items() if of == phase)

    # Devices of tensors

    def device_of(self, tensor: torch.Tensor) -> torch.device:
        """Return the device that a tensor says it is on."""
        for storage in _storages(tensor):
            index = getattr(storage, "_sim_device", None)
            if index is not None:
                return torch.device("cuda", index)
        return _DEVICE(tensor)

    def mark(self, tensor: torch.Tensor, device: torch.device) -> None:
        """Let a tensor, and all that share its storage, be on ``device``."""
        for storage in _storages(tensor):
            old = getattr(storage, "_sim_device", None)
            new = (
                None if device.type == "cpu" else (device.index if device.index is not None else self.current)
            )
            if old is None and new is not None:
                n_bytes = storage.nbytes()
                self.allocated += n_bytes
                self.peak = max(self.peak, self.allocated)
                storage._sim_freed = weakref.finalize(storage, self._free, n_bytes)
            elif old is not None and new is None:
                storage._sim_freed()
            storage._sim_device = new

    def _free(self, n_bytes: int) -> None:
        self.allocated -= n_bytes

    def resolve(self, device: Any) -> torch.device | None:
        """Return a device with an index from what callers write."""
        if device is None:
            return None
        device = torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
        if device.type == "cuda":
            index = self.current if device.index is None else device.index
            if index >= self.n_devices:
                raise RuntimeError(f"CUDA error: invalid device ordinal ({index})")
            return torch.device("cuda", index)
        return device

    # Operations

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name
        tensors = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, torch.Tensor)]
        devices = [self.device_of(tensor) for tensor in tensors]
        on_device = [device for device in devices if device.type == "cuda"]
        device = on_device[0] if on_device else CPU
        undecided = [tensor for tensor in tensors if getattr(_storages(tensor)[0], "_sim_undecided", False)]
        if undecided and on_device:
            for tensor in undecided:
                self.mark(tensor, device)
                _storages(tensor)[0]._sim_undecided = False
            devices = [self.device_of(tensor) for tensor in tensors]
        if on_device:
            self._check(func, name, args, tensors, devices, device)
        generator = _generator(func, args, kwargs)
        if generator is not None and tensors and _type_of(generator) != device.type:
            raise DeviceMismatch(
                f"Expected a '{device.type}' device type for generator but found '{_type_of(generator)}' "
                f"({name}, at {self._where()})"
            )
        seeded = torch.Tag.nondeterministic_seeded in func.tags
        if on_device and seeded and generator is None:
            with self._device_randomness(device):
                result = func(*args, **kwargs)
        else:
            result = func(*args, **kwargs)
        if not on_device and (undecided or not tensors) and _called_by_torch():
            # Made by C++ of the options of some tensor: of the device of what it will meet.
            for each in tree_flatten(result)[0]:
                if isinstance(each, torch.Tensor) and each.layout is torch.strided:
                    _storages(each)[0]._sim_undecided = True
        if on_device and name != "aten::copy_":
            known = {storage._cdata for tensor in tensors for storage in _storages(tensor)}
            tree_map_only(torch.Tensor, lambda each: self._mark_new(each, known, device), result)
        if on_device:
            self._account(func, name, args, tensors, devices, device)
        return result

    def _mark_new(self, tensor: torch.Tensor, known: set[int], device: torch.device) -> None:
        if any(storage._cdata not in known for storage in _storages(tensor)):
            self.mark(tensor, device)

    def _check(
        self, func: Any, name: str, args: Any, tensors: Any, devices: Any, device: torch.device
    ) -> None:
        strangers = [(tensor, at) for tensor, at in zip(tensors, devices) if at != device]
        if not strangers or name in _TAKES_CPU:
            return
        if any(at.type == "cuda" for _, at in strangers):
            raise DeviceMismatch(f"{name}: two devices, {device} and {strangers[0][1]}, at {self._where()}")
        if name in _INDEXING and devices[0] == device:
            # self is on the device; indices may be CPU tensors (copied), values must be 0-dimensional ones
            indices = {id(index) for index in args[1] if index is not None}
            strangers = [(tensor, at) for tensor, at in strangers if id(tensor) not in indices]
            if all(tensor.dim() == 0 for tensor, _ in strangers):
                return
        scalars = all(tensor.dim() == 0 for tensor, _ in strangers)
        elementwise = torch.Tag.pointwise in func.tags or "_foreach_" in name
        if scalars and (
            elementwise or name in ("aten::fill_", "aten::where", "aten::masked_fill_", "aten::masked_fill")
        ):
            return
        shapes = [(tuple(tensor.shape), str(at)) for tensor, at in zip(tensors, devices)]
        raise DeviceMismatch(
            "Expected all tensors to be on the same device, but found at least two devices, "
            f"{device} and cpu! ({name}, {shapes}, at {self._where()})"
        )

    def _account(
        self, func: Any, name: str, args: Any, tensors: Any, devices: Any, device: torch.device
    ) -> None:
        if name == "aten::copy_":
            if len(set(devices)) > 1:
                to_device = devices[0].type == "cuda"
                pinned = getattr(_storages(tensors[1 if to_device else 0])[0], "_sim_pinned", False)
                if not (pinned and len(args) > 2 and args[2]):
                    self.note_sync("copy to device" if to_device else "copy to host")
                if to_device or tensors[0].numel():
                    self._note_launch(name, 1)
                return
        elif name in _WAITS:
            self.note_sync(_WAITS[name])
        elif name in _INDEXING:
            indices = [index for index in args[1] if index is not None]
            if any(self.device_of(index).type == "cpu" for index in indices):
                self.note_sync("CPU index, copied")
            masks = [index for index in indices if index.dtype in (torch.bool, torch.uint8)]
            # x[mask] = scalar is masked_fill, which waits for nothing
            fills = name != "aten::index" and len(indices) == 1 and len(args) > 2 and args[2].numel() == 1
            if masks and not fills:
                self.note_sync("mask as index")
        if name not in _NOTHING and not getattr(func, "is_view", False):
            self._note_launch(name, _KERNELS.get(name, 1))

    @contextmanager
    def _device_randomness(self, device: torch.device) -> Any:
        generator = self.generators[device.index or 0]
        ours = torch.default_generator.get_state()
        torch.default_generator.set_state(generator.get_state())
        try:
            yield
        finally:
            generator.set_state(torch.default_generator.get_state())
            torch.default_generator.set_state(ours)

    # Python's way in

    def transfer(
        self, tensor: torch.Tensor, device: torch.device, dtype: Any, non_blocking: bool
    ) -> torch.Tensor:
        """Return a copy on another device."""
        if tensor.requires_grad and torch.is_grad_enabled():
            return _Transfer.apply(tensor, self, device, dtype, non_blocking)
        if device.type == "cuda":
            pinned = all(getattr(storage, "_sim_pinned", False) for storage in _storages(tensor))
            if not (pinned and non_blocking):
                self.note_sync("copy to device")
        else:
            self.note_sync("copy to host")
        with _disable_current_modes():
            result = self._to(tensor, dtype=dtype or tensor.dtype, copy=True)
        self.mark(result, device)
        self._note_launch("memcpy", 1)
        return result

    def __enter__(self) -> SimulatedCuda:
        self._patch_tensor()
        self._patch_readers()
        for name in _NEW:
            self._patch(torch.Tensor, name, self._new(getattr(torch.Tensor, name)))
        for name in _FACTORIES:
            self._patch(torch, name, self._factory(name, getattr(torch, name)))
        for name in ("tensor", "as_tensor", "asarray"):
            self._patch(torch, name, self._from_data(name, getattr(torch, name)))
        self._patch_storage()
        self._patch_cuda()
        self._patch_amp()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._stack.close()

    def _patch(self, owner: Any, name: str, new: Any) -> None:
        self._stack.enter_context(mock.patch.object(owner, name, new))

    def _patch_tensor(self) -> None:
        """Patch what says where a tensor is, and what moves it."""
        sim, patch, Tensor = self, self._patch, torch.Tensor
        self._to = Tensor.to

        def to(self: Any, *args: Any, **kwargs: Any) -> Any:
            copy = kwargs.pop("copy", False)
            if args and isinstance(args[0], Tensor):
                device, dtype = args[0].device, args[0].dtype
                non_blocking, memory_format = kwargs.get("non_blocking", False), None
            elif "other" in kwargs:
                device, dtype, non_blocking, memory_format = (
                    kwargs["other"].device,
                    kwargs["other"].dtype,
                    False,
                    None,
                )
            else:
                device, dtype, non_blocking, memory_format = torch._C._nn._parse_to(*args, **kwargs)
            device = sim.resolve(device) or self.device
            if device != self.device:
                return sim.transfer(self, device, dtype, non_blocking)
            extra = {} if memory_format is None else {"memory_format": memory_format}
            return sim._to(self, dtype=dtype or self.dtype, copy=copy, **extra)

        patch(Tensor, "device", property(lambda self: sim.device_of(self)))
        patch(Tensor, "is_cuda", property(lambda self: sim.device_of(self).type == "cuda"))
        patch(Tensor, "is_cpu", property(lambda self: sim.device_of(self).type == "cpu"))
        patch(Tensor, "get_device", lambda self: -1 if self.is_cpu else self.device.index)
        patch(Tensor, "to", to)
        patch(Tensor, "cpu", lambda self, **_: to(self, "cpu"))
        patch(
            Tensor,
            "cuda",
            lambda self, device=None, non_blocking=False, **_: to(
                self, "cuda" if device is None else device, non_blocking=non_blocking
            ),
        )

    def _patch_readers(self) -> None:
        """Patch what reads a tensor on the host, and what makes one there."""
        sim, patch, Tensor = self, self._patch, torch.Tensor
        numpy, tolist, new_tensor = Tensor.numpy, Tensor.tolist, Tensor.new_tensor

        def refuse_numpy(self: Any, *args: Any, **kwargs: Any) -> Any:
            if self.device.type == "cuda":
                raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")
            return numpy(self, *args, **kwargs)

        def array(self: Any, dtype: Any = None, copy: Any = None) -> Any:
            result = refuse_numpy(self.detach() if self.requires_grad else self)
            return result if dtype is None else result.astype(dtype, copy=False)

        def to_list(self: Any) -> Any:
            if self.device.type == "cuda":
                sim.note_sync("tolist")
            with _disable_current_modes():
                return tolist(self)

        def pin(self: Any, device: Any = None) -> Any:
            if self.device.type == "cuda":
                raise RuntimeError("cannot pin 'torch.cuda.FloatTensor' only dense CPU tensors can be pinned")
            result = self.clone()
            _storages(result)[0]._sim_pinned = True
            return result

        def tensor_of(self: Any, data: Any, **kwargs: Any) -> Any:
            device = sim.resolve(kwargs.pop("device", None)) or self.device
            with _disable_current_modes():
                result = new_tensor(self, data, **kwargs)
            if device.type == "cuda":
                sim.note_sync("copy to device (new_tensor)")
                sim._note_launch("memcpy", 1)
                sim.mark(result, device)
            return result

        patch(Tensor, "numpy", refuse_numpy)
        patch(Tensor, "__array__", array)
        patch(Tensor, "tolist", to_list)
        patch(Tensor, "pin_memory", pin)
        patch(Tensor, "new_tensor", tensor_of)

    def _new(self, original: Any) -> Any:
        def new(tensor: Any, *args: Any, device: Any = None, **kwargs: Any) -> Any:
            asked = self.resolve(device) or tensor.device
            if asked == tensor.device:
                return original(tensor, *args, **kwargs)
            with _disable_current_modes():
                result = original(tensor, *args, **kwargs)
            self.mark(result, asked)
            return result

        return new

    def _factory(self, name: str, original: Any) -> Any:
        def make(*args: Any, device: Any = None, **kwargs: Any) -> Any:
            source = next((arg for arg in (*args, *kwargs.values()) if isinstance(arg, torch.Tensor)), None)
            asked = self.resolve(device)
            if asked is None:
                asked = source.device if source is not None else CPU
            generator = kwargs.get("generator")
            if generator is not None and _type_of(generator) != asked.type:
                raise DeviceMismatch(
                    f"Expected a '{asked.type}' device type for generator but found '{_type_of(generator)}' "
                    f"(torch.{name}, at {self._where()})"
                )
            pinned = kwargs.pop("pin_memory", False)
            if source is not None and (name == "sparse_coo_tensor" or asked == source.device):
                return original(*args, **kwargs)
            if asked.type == "cpu":
                result = original(*args, **kwargs)
                if pinned:
                    _storages(result)[0]._sim_pinned = True
                return result
            if name in _RANDOM_FACTORIES and generator is None:
                kwargs["generator"] = self.generators[asked.index]
            with _disable_current_modes():
                result = original(*args, **kwargs)
            self.mark(result, asked)
            if not name.startswith("empty"):
                self._note_launch(f"torch.{name}", _KERNELS.get(f"aten::{name}", 1))
            return result

        return make

    def _from_data(self, name: str, original: Any) -> Any:
        def make(data: Any, *args: Any, device: Any = None, **kwargs: Any) -> Any:
            asked = self.resolve(device)
            if isinstance(data, torch.Tensor) and name != "tensor":
                return data.to(device=asked or data.device, dtype=kwargs.get("dtype") or data.dtype)
            parts = [one for one in tree_flatten(data)[0] if isinstance(one, torch.Tensor) and one.is_cuda]
            for _ in parts:
                self.note_sync("item (torch.tensor of tensors)")
            result = original(data, *args, **kwargs)
            if asked is not None and asked.type == "cuda":
                self.note_sync(f"copy to device (torch.{name})")
                self._note_launch("memcpy", 1)
                self.mark(result, asked)
            return result

        return make

    def _patch_storage(self) -> None:
        """Let storages keep their device in files, and in deep copies."""
        sim, patch = self, self._patch
        clone = torch.UntypedStorage.clone

        def cloned(storage: Any) -> Any:
            result = clone(storage)
            index = getattr(storage, "_sim_device", None)
            if index is not None:
                result._sim_device = None
                sim.mark(torch.empty(0).set_(result), torch.device("cuda", index))
            return result

        patch(torch.UntypedStorage, "clone", cloned)

        def tag(storage: Any) -> str | None:
            index = getattr(storage, "_sim_device", None)
            return None if index is None else f"cuda:{index}"

        def restore(storage: Any, location: str) -> Any:
            if not location.startswith("cuda"):
                return None
            device = sim.resolve(location)
            with _disable_current_modes():
                sim.mark(torch.empty(0).set_(storage), device)
            sim.note_sync("copy to device (torch.load)")
            return storage

        registry = torch.serialization._package_registry
        entry = (1, tag, restore)
        registry.insert(0, entry)
        self._stack.callback(lambda: registry.remove(entry))

    def _patch_cuda(self) -> None:  # noqa: C901  (each patched function counts as a branch)
        sim, cuda, patch = self, torch.cuda, self._patch

        def index_of(device: Any) -> int:
            result = sim.resolve("cuda" if device is None else device)
            return result.index or 0

        def seed_all(seed: int) -> None:
            for generator in sim.generators:
                generator.manual_seed(seed)

        @contextmanager
        def no_context(*_: Any) -> Any:
            yield

        # torch for CUDA, without a driver, would ask its C++ for the stream of a current device.
        if hasattr(torch, "accelerator"):
            patch(torch.accelerator, "current_accelerator", lambda check_available=False: None)
        patch(torch.backends.cudnn, "is_acceptable", lambda tensor: False)
        properties = SimpleNamespace(
            name="Simulated CUDA", total_memory=self.memory_bytes, major=9, minor=0, multi_processor_count=132
        )
        new = {
            "is_available": lambda: True,
            "device_count": lambda: sim.n_devices,
            "is_initialized": lambda: True,
            "init": lambda: None,
            "_lazy_init": lambda: None,
            "current_device": lambda: sim.current,
            "set_device": lambda device: setattr(sim, "current", index_of(device)),
            "manual_seed": lambda seed: sim.generators[sim.current].manual_seed(seed) and None,
            "manual_seed_all": seed_all,
            "get_rng_state": lambda device="cuda": sim.generators[index_of(device)].get_state(),
            "get_rng_state_all": lambda: [generator.get_state() for generator in sim.generators],
            "set_rng_state": lambda state, device="cuda": (
                sim.generators[index_of(device)].set_state(state) and None
            ),
            "synchronize": lambda *_: sim.note_sync("synchronize"),
            "empty_cache": lambda: None,
            "memory_allocated": lambda *_: sim.allocated,
            "max_memory_allocated": lambda *_: sim.peak,
            "memory_reserved": lambda *_: sim.allocated,
            "max_memory_reserved": lambda *_: sim.peak,
            "reset_peak_memory_stats": lambda *_: setattr(sim, "peak", sim.allocated),
            "mem_get_info": lambda *_: (sim.memory_bytes - sim.allocated, sim.memory_bytes),
            "get_device_name": lambda *_: properties.name,
            "get_device_properties": lambda *_: properties,
            "get_device_capability": lambda *_: (9, 0),
            "is_bf16_supported": lambda *_, **__: True,
            "device_of": no_context,
            "device": no_context,
        }
        for name, function in new.items():
            patch(cuda, name, function)
        of_torch = torch.Generator

        class Generator(of_torch):  # type: ignore[misc, valid-type]
            def __new__(cls, device: Any = "cpu") -> Any:
                asked = sim.resolve(device)
                made = of_torch.__new__(_DeviceGenerator if asked.type == "cuda" else of_torch)
                if asked.type == "cuda":
                    _OF_DEVICE[made._cdata] = made
                return made

        patch(torch, "Generator", Generator)
        group = torch.utils._foreach_utils._group_tensors_by_device_and_dtype

        def grouped(lists: Any, with_indices: bool = False) -> Any:
            result = group(lists, with_indices)
            renamed = {}
            for (device, dtype), (tensors, places) in result.items():
                at = [sim.device_of(each) for each in tensors[0] if each is not None]
                if len(set(at)) > 1:
                    raise DeviceMismatch("a group of tensors on several devices")
                renamed[(at[0] if at else device), dtype] = (tensors, places)
            return renamed

        for module in _GROUPING:
            patch(sys.modules[module], "_group_tensors_by_device_and_dtype", grouped)

    def _patch_amp(self) -> None:
        """Let autocast of the device be that of the CPU, where the tensors are."""
        patch = self._patch
        init = torch.amp.autocast_mode.autocast.__init__

        def begin(self: Any, device_type: str = "cuda", dtype: Any = None, **options: Any) -> None:
            if device_type == "cuda" and dtype is None:
                dtype = torch.float16
            init(self, "cpu" if device_type == "cuda" else device_type, dtype, **options)

        patch(torch.amp.autocast_mode.autocast, "__init__", begin)
        enabled, dtype_of = torch.is_autocast_enabled, torch.get_autocast_dtype
        patch(torch, "is_autocast_enabled", lambda device="cuda": enabled("cpu"))
        patch(torch, "get_autocast_dtype", lambda device="cuda": dtype_of("cpu"))


def _called_by_torch() -> bool:
    """Return whether C++ code that torch itself called, such as autograd's engine, makes a tensor."""
    frame = sys._getframe(2)
    while frame is not None:
        name, function = frame.f_code.co_filename, frame.f_code.co_name
        if name == __file__:
            if function != "__torch_dispatch__":
                return False  # a factory that Python code called
        elif not name.endswith(("/torch/_compile.py", "/torch/_dynamo/eval_frame.py", "/torch/_ops.py")):
            return "/torch/" in name
        frame = frame.f_back
    return False


class _Transfer(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Any, sim: Any, device: Any, dtype: Any, non_blocking: bool) -> Any:
        ctx.sim, ctx.back = sim, (sim.device_of(tensor), tensor.dtype)
        return sim.transfer(tensor, device, dtype, non_blocking)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return ctx.sim.transfer(grad, *ctx.back, False), None, None, None, None


class _DeviceGenerator(torch.Generator):
    """A generator that says it is on the device."""

    device = torch.device("cuda", 0)


#: Generators of the device, which ATen hands on as plain ones; kept, so that no other gets their address.
_OF_DEVICE: dict[int, torch.Generator] = {}


def _type_of(generator: torch.Generator) -> str:
    return "cuda" if generator._cdata in _OF_DEVICE else "cpu"


def _generator(func: Any, args: Any, kwargs: Any) -> torch.Generator | None:
    return next((arg for arg in (*args, *kwargs.values()) if isinstance(arg, torch._C.Generator)), None)


def _storages(tensor: torch.Tensor) -> list[Any]:
    if tensor.layout is torch.sparse_coo:
        with _disable_current_modes():
            return [tensor._indices().untyped_storage(), tensor._values().untyped_storage()]
    return [tensor.untyped_storage()]
