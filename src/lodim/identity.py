"""What an answer was made from, as one short text: :func:`content_hash`, :func:`code_hash`.

An answer is stored under what it was computed from, so that it is never taken for the answer of another question. Data
count by their values, functions by what they do: their code, closure, defaults and the globals they use, never by name
or address. Code of installed packages counts by its name and their version.
"""

from __future__ import annotations

import argparse
import copyreg
import dataclasses
import dis
import enum
import functools
import hashlib
import importlib.util
import re
import sys
import sysconfig
import types
import typing
import weakref
from collections.abc import Iterable, Iterator
from contextlib import suppress
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["UnidentifiableError", "code_hash", "content_hash"]

_PLAIN = (bool, int, float, complex, str, bytes, bytearray, type(None), type(...), type(NotImplemented))
_BARE = ("_thread.", "threading.")  # locks and events hold nothing that an answer could depend on
_REMEMBERED = ("_abc_impl", "_value2member_map_")  # by a class, as it is used
_SETTINGS = (
    *(bool, int, float, complex, str, bytes, list, tuple, dict, set, frozenset, range, slice),
    *(enum.Enum, argparse.Namespace, types.SimpleNamespace, np.generic),
)
_DESCRIPTORS = (
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
    types.ClassMethodDescriptorType,
)


class UnidentifiableError(TypeError):
    """Something whose content cannot be told: an open file, a generator, a connection."""


def content_hash(*values: Any) -> str:
    """Return the same text for the same content, in every process, and another one for any other.

    Parameters
    ----------
    *values : object
        Numbers, text, containers, arrays, tensors (values, dtype and shape; not the device), modules (code, parameters,
        which of them are tied or frozen, buffers, hooks), functions, partials, classes, data frames, estimators, and
        whatever else can be pickled. What a function keeps in its closure, in an attribute or in a global, such as a
        list that it appends to, is part of it, and so is what it uses of your other modules, as they are loaded;
        modules that it imports inside are imported for it. The order of a dict is not.

    Raises
    ------
    UnidentifiableError
        A TypeError that names the part whose content cannot be told.
    """
    try:
        return _Hasher().digest(values).hex()
    except RecursionError as error:
        raise UnidentifiableError("the content is nested too deeply to be told; give a key") from error


def code_hash(*values: Any, trained: Iterable[Any] | None = None) -> str:
    """Return what functions and modules do, whatever they have worked on so far.

    As :func:`content_hash`, but arrays, tensors, parameters and saved buffers count by dtype and shape, objects by
    their class, and whether a module is in training does not count. Numbers, text, containers, dataclasses and
    namespaces, the settings of functions and modules, count by their values, as do the tensors that a module neither
    trains nor saves. With ``trained``, the modules that a run changes, all numbers of other modules that nothing trains
    count too: a teacher, the class weights of a loss.
    """
    try:
        return _CodeHasher(trained).digest(values).hex()
    except RecursionError as error:
        raise UnidentifiableError("the content is nested too deeply to be told") from error


class _Hasher:
    """A Merkle tree: the digest of a thing is made of its kind and the digests of its parts."""

    left_out: tuple[str, ...] = ("_compiled_call_impl",)  # of a module's attributes

    def __init__(self) -> None:
        self.known: dict[int, tuple[Any, bytes]] = {}  # what is held stays alive, so no address is used twice
        self.open: dict[int, int] = {}
        self.storages: dict[tuple[int, int], int] = {}

    @typing.no_type_check  # nor by what checks annotations at run time: it is called for every part of every thing
    def digest(self, value: Any) -> bytes:
        if type(value) in _PLAIN:
            plain = value if isinstance(value, bytes | bytearray) else repr(value).encode()
            return _hash(type(value).__name__, plain)
        at = id(value)
        if at in self.known:
            return self.known[at][1]
        if at in self.open:  # it holds itself
            return _hash("itself", str(self.open[at]).encode())
        self.open[at] = len(self.open)
        try:
            kind, *parts = self.parts(value)
            found = _hash(kind, *(p if isinstance(p, _Raw) else self.digest(p) for p in parts))
        finally:
            del self.open[at]
        self.known[at] = (value, found)
        return found

    def parts(self, value: Any) -> Iterator[Any]:
        """Yield the kind of a thing, then what it consists of."""
        torch = sys.modules.get("torch")
        if isinstance(value, np.ndarray):
            return self.array(value)
        if torch is not None and isinstance(value, torch.Tensor):
            return self.tensor(value)
        if torch is not None and isinstance(value, torch.nn.Module):
            return self.module(value)
        if torch is not None and isinstance(value, torch.Generator):
            return iter(["generator", value.device.type, value.get_state()])
        if type(value) in (list, tuple):
            return iter([type(value).__name__, *value])
        if type(value) is dict:
            items = sorted(((_Raw(self.digest(key)), held) for key, held in value.items()), key=itemgetter(0))
            return iter(["dict", *(part for item in items for part in item)])
        if isinstance(value, types.MappingProxyType):
            return iter(["mapping", dict(value)])
        if isinstance(value, weakref.ReferenceType):
            return iter(["reference", value()])
        if type(value) in (set, frozenset):
            return iter(["set", *sorted(_Raw(self.digest(part)) for part in value)])
        if isinstance(value, functools.partial):
            return iter(["partial", value.func, value.args, sorted(value.keywords.items())])
        if isinstance(value, types.FunctionType):
            return self.function(value)
        if isinstance(value, types.CodeType):
            return self.code(value)
        if isinstance(value, types.MethodType):
            return iter(["method", value.__self__, value.__func__])
        if isinstance(value, staticmethod | classmethod):
            return iter([type(value).__name__, value.__func__])
        if isinstance(value, property):
            return iter(["property", value.fget, value.fset, value.fdel])
        if isinstance(value, types.CellType):
            return iter(["cell", *_contents(value)])
        if isinstance(value, types.BuiltinFunctionType):
            owner = value.__self__
            return iter(["builtin", owner if owner is not None else value.__module__, value.__qualname__])
        if isinstance(value, _DESCRIPTORS):
            return iter(["descriptor", f"{value.__objclass__.__module__}.{value.__qualname__}"])
        if isinstance(value, types.ModuleType):
            return _module_parts(value)
        if isinstance(value, type):
            return self.type(value)
        if (
            isinstance(value, types.GenericAlias | types.UnionType)
            or type(value).__module__ == typing.__name__
        ):
            return iter(["annotation", repr(value)])
        if isinstance(value, functools._lru_cache_wrapper):  # what it remembers is no content
            return iter(["remembering", value.__wrapped__])
        return self.object(value)

    def array(self, value: np.ndarray) -> Iterator[Any]:
        yield "array"
        if type(value) not in (np.ndarray, np.memmap):  # heirs may hold more, such as a unit
            yield type(value)
            yield vars(value) if type(value) is not np.ma.MaskedArray else value.fill_value
        if isinstance(value, np.ma.MaskedArray):
            yield np.ma.getmaskarray(value)
            value = value.data
        value = np.asarray(value)
        yield value.shape
        yield value.dtype.names or value.dtype.str
        if value.dtype.names:  # one by one: between them may lie whatever was in the memory
            yield [value[name] for name in value.dtype.names]
        elif value.dtype.hasobject:
            yield value.tolist()
        elif value.nbytes:
            yield _Raw(_hash("bytes", np.ascontiguousarray(value).reshape(-1).view(np.uint8).data))

    def tensor(self, value: Any) -> Iterator[Any]:
        import torch

        yield "tensor"
        if type(value) not in (torch.Tensor, torch.nn.Parameter):
            yield type(value)
            yield vars(value)
        yield str(value.dtype), value.requires_grad
        if torch.nn.parameter.is_lazy(value):
            return
        if value.is_sparse:
            value = value.coalesce()
            yield value.indices().detach()
            yield value.values().detach()
        elif value.is_meta:
            yield "meta"
        elif value.layout is not torch.strided or value.is_quantized:
            raise _cannot_tell(value)
        else:
            if value.requires_grad:  # two names of one parameter are not two parameters of equal values
                place = (value.untyped_storage().data_ptr(), value.storage_offset())
                yield self.storages.setdefault(place, len(self.storages))
            plain = value.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
            yield _Raw(_hash("bytes", plain.view(torch.uint8).numpy().data))
        yield tuple(value.shape)

    def module(self, value: Any) -> Iterator[Any]:
        import torch

        own = dict(vars(value))
        yield "module"
        if isinstance(value, torch.jit.ScriptModule):
            yield re.sub(" # .*", "", str(value.inlined_graph))  # without the places of the source
            yield [*value.named_parameters(), *value.named_buffers()]
            yield [] if "training" in self.left_out else [part.training for part in value.modules()]
            return
        compiled = own["_modules"].get("_orig_mod")
        if compiled is not None:  # what torch.compile keeps is no content
            yield "compiled"
            yield compiled
            return
        yield type(value)
        for name in sorted(own.keys() - set(self.left_out)):
            held = own[name]
            if name.startswith("_") and name.endswith(
                ("_hooks", "_hooks_with_kwargs", "_hooks_always_called")
            ):
                held = (
                    list(held.values()) if hasattr(held, "values") else held
                )  # their numbers count all hooks
            elif name.startswith("_") and isinstance(held, dict):
                held = list(held.items())
            yield name
            yield held

    def function(self, value: types.FunctionType) -> Iterator[Any]:
        own = vars(value)
        if "_torchdynamo_orig_callable" in own:
            yield "compiled"
            yield own["_torchdynamo_orig_callable"]
            return
        if {"registry", "dispatch"} <= own.keys():  # functools.singledispatch, without what it remembers
            yield "dispatching"
            yield own["registry"]
            return
        yield "function"
        yield value.__code__
        yield value.__defaults__
        yield sorted((value.__kwdefaults__ or {}).items())
        version = _version(value.__module__)
        if (
            not version or "<locals>" in value.__qualname__
        ):  # else it holds what a decorator of the package remembers
            yield value.__closure__
        if version:
            yield f"{value.__module__}.{value.__qualname__} {version}"
            return
        yield {name: held for name, held in own.items() if not name.startswith("__")}
        home = value.__globals__.get("__name__")
        if version := _version(home):  # what a package's decorator made of it
            yield f"{home} {version}"
            return
        codes = list(_codes_of(value.__code__))
        names = {name for code in codes for name in code.co_names}
        for name in sorted(set(_globals_of(value.__code__))):
            if name in value.__globals__:
                yield name
                yield value.__globals__[name]
                yield from self.members(value.__globals__[name], names)
        for name in sorted({name for code in codes for name in _imports_of(code, value.__globals__)}):
            yield name
            module = _own_module(name)
            yield module
            yield from self.members(module, names)

    def members(self, module: Any, names: set[str], seen: tuple[Any, ...] = ()) -> Iterator[Any]:
        """Yield what stands under names in a module of the user's, as it is now: its file says what it will be."""
        if not isinstance(module, types.ModuleType) or module in seen or _version(module.__name__):
            return
        for name in sorted(names & vars(module).keys()):
            held = vars(module)[name]
            yield name
            try:
                yield _Raw(self.digest(held))
            except UnidentifiableError:  # perhaps another thing of that name is meant
                continue
            yield from self.members(held, names, (*seen, module))

    def code(self, value: types.CodeType) -> Iterator[Any]:
        used = {step.arg for step in dis.get_instructions(value) if step.opcode in dis.hasconst}
        yield "code"
        yield value.co_code
        yield [constant for i, constant in enumerate(value.co_consts) if i in used]  # the docstring is not
        yield value.co_names, value.co_varnames, value.co_freevars, value.co_cellvars
        yield value.co_argcount, value.co_posonlyargcount, value.co_kwonlyargcount, value.co_flags
        yield getattr(value, "co_exceptiontable", b"")

    def type(self, value: type) -> Iterator[Any]:
        yield "type"
        yield value.__qualname__
        if type(value) is not type:
            yield type(value)
        if version := _version(value.__module__):
            yield f"{value.__module__} {version}"
            yield [
                base for base in value.__mro__[1:] if not _version(base.__module__)
            ]  # made there of the user's
            if "<locals>" not in value.__qualname__:
                return
        yield value.__bases__
        for name, held in sorted(vars(value).items()):
            does = hasattr(held, "__get__") and not isinstance(held, _DESCRIPTORS)
            if does or not (name.startswith("__") or name in _REMEMBERED):
                yield name
                yield held if not isinstance(held, types.MemberDescriptorType) else "slot"

    def object(self, value: Any) -> Iterator[Any]:
        """Whatever pickle would write, but with the code of its class."""
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        if kind.startswith(_BARE):
            yield kind
            return
        try:
            reduce = copyreg.dispatch_table.get(type(value))
            reduced = value.__reduce_ex__(4) if reduce is None else reduce(value)
        except Exception as error:
            raise _cannot_tell(value) from error
        yield type(value).__qualname__
        if isinstance(reduced, str):  # a global's name
            home = getattr(value, "__module__", None) or type(value).__module__
            yield f"{home}.{reduced} {_version(home)}"
            return
        yield type(value)
        make, arguments, *rest = reduced
        yield make
        yield arguments
        state, items, pairs = (*rest, None, None, None)[:3]
        yield _without_caches(state, type(value))
        yield list(items or ())
        yield [part for pair in pairs or () for part in pair]


class _CodeHasher(_Hasher):
    """Tensors and objects are told by their kind."""

    left_out = ("_compiled_call_impl", "training")

    def __init__(self, trained: Iterable[Any] | None = None) -> None:
        super().__init__()
        self.trained = None if trained is None else {part for module in trained for part in module.modules()}

    def array(self, value: np.ndarray) -> Iterator[Any]:
        return iter(["array", value.dtype.str, value.shape])

    def tensor(self, value: Any) -> Iterator[Any]:
        import torch

        yield "tensor"
        yield str(value.dtype), value.requires_grad
        if torch.nn.parameter.is_lazy(value):
            return
        yield tuple(value.shape)
        if value.requires_grad and not value.is_sparse:  # which of them are one
            place = (value.untyped_storage().data_ptr(), value.storage_offset())
            yield self.storages.setdefault(place, len(self.storages))

    def module(self, value: Any) -> Iterator[Any]:
        import torch

        yield from super().module(value)
        if self.trained is not None and value not in self.trained:
            if any(p.requires_grad for p in value.parameters()):
                self.trained |= set(value.modules())
            else:
                yield _Raw(_Hasher().digest([*value.named_parameters(), *value.named_buffers()]))
        own = vars(value)
        unsaved = [own["_buffers"].get(name) for name in sorted(own["_non_persistent_buffers_set"])]
        for held in [*unsaved, *(own[name] for name in sorted(own))]:
            if isinstance(held, torch.Tensor) and not held.requires_grad:
                yield _Raw(_Hasher().digest(held))

    def object(self, value: Any) -> Iterator[Any]:
        if isinstance(value, _SETTINGS) or (dataclasses.is_dataclass(value) and not isinstance(value, type)):
            try:
                return iter(list(super().object(value)))
            except UnidentifiableError:
                pass
        return iter(["object", type(value)])


class _Raw(bytes):
    """A digest that stands for itself."""


@typing.no_type_check
def _hash(kind: str, *parts: Any) -> bytes:
    found = hashlib.blake2b(f"{kind}\0{len(parts)}\0".encode(), digest_size=16)
    for part in parts:
        found.update(part)
    return found.digest()


def _cannot_tell(value: Any) -> UnidentifiableError:
    return UnidentifiableError(
        f"the content of {value!r:.80} ({type(value).__module__}.{type(value).__qualname__}) cannot be told, so "
        "nothing can be stored under it; keep it out of the job, or give a key"
    )


def _contents(cell: types.CellType) -> list[Any]:
    try:
        return [cell.cell_contents]
    except ValueError:  # not assigned yet
        return []


def _codes_of(code: types.CodeType) -> Iterator[types.CodeType]:
    """A function's code and that of the functions inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes_of(constant)


def _globals_of(code: types.CodeType) -> Iterable[str]:
    """Names that a function, or one inside it, looks up outside."""
    for part in _codes_of(code):
        for step in dis.get_instructions(part):
            if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
                yield str(step.argval)


def _imports_of(code: types.CodeType, around: dict[str, Any]) -> Iterator[str]:
    """Names of the modules that a function imports."""
    steps = list(dis.get_instructions(code))
    for level, _, step in zip(steps, steps[1:], steps[2:], strict=False):
        if step.opname == "IMPORT_NAME":
            dots = "." * int(level.argval or 0)
            with suppress(ImportError):
                yield importlib.util.resolve_name(dots + str(step.argval), around.get("__package__"))


def _own_module(name: str) -> types.ModuleType | None:
    """A module of the user's by name; None of one that is installed, or missing."""
    top = name.partition(".")[0]
    try:
        if _version(top) or "-packages" in (importlib.util.find_spec(top).origin or ""):  # type: ignore[union-attr]
            return None
        return importlib.import_module(name)
    except Exception:  # whatever it raises, the function will raise
        return None


def _without_caches(state: Any, owner: type) -> Any:
    """A state as pickle has it, without what was only worked out from it: cached properties, pandas' ``_cache``."""
    if type(state) is tuple:
        kept = [_without_caches(part, owner) for part in state]
        return tuple(part for part in kept if not (isinstance(part, dict) and not part))
    if not isinstance(state, dict):
        return state
    held = {k: v for k, v in state.items() if not (k == "_cache" and _version(owner.__module__))}
    cached = functools.cached_property
    return {
        k: v
        for k, v in held.items()
        if not (isinstance(k, str) and isinstance(getattr(owner, k, None), cached))
    }


def _module_parts(module: types.ModuleType) -> Iterator[Any]:
    yield "namespace"
    yield module.__name__
    version = _version(module.__name__)
    yield version
    if not version and getattr(module, "__file__", None):  # a module of the user's: whatever is in its file
        yield Path(str(module.__file__)).read_bytes()


@functools.cache
def _version(name: str | None) -> str:
    """Version of the package that a module is installed with; empty for code of the user's own."""
    top = (name or "__main__").partition(".")[0]
    package = sys.modules.get(top)
    place = getattr(package, "__file__", None)
    installed = top == "lodim" or top in sys.builtin_module_names or top in sys.stdlib_module_names
    if place is not None and not installed:
        parts = Path(place).parts
        installed = "site-packages" in parts or "dist-packages" in parts
    if not installed or top == "__main__":
        return ""
    if top in sys.stdlib_module_names:
        return f"Python {sysconfig.get_python_version()}"
    return f"version {getattr(package, '__version__', 'unknown')}"
