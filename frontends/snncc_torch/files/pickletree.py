"""Reads a pickle stream as data: an abstract machine that never imports, calls or allocates.

Only what ``torch.save`` writes for tensors, containers and modules has a meaning here. Whatever
else the stream would do is a problem: a call (SNNC-S001) or a class that snncc does not know
(SNNC-M002). A module tree is checked further in :mod:`snncc_torch.files.schema` before torch sees the file.

A checkpoint, whose root is a dict, is never given to torch: its weights are taken out as bytes. So the
settings, dates and numpy numbers that training scripts put beside them do no harm and are passed over;
what no honest checkpoint holds, a call of a function or a mention of ``os``, is refused there too.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass, field
from typing import Any

from snncc.errors import Problem, fail, problem
from snncc.safeio import shown

# A description of layers; weights lie beside it. The largest real model needs about 1 MB.
MAX_PICKLE = 32 * 2**20

# Modules whose mention alone tells an attack; any other name is refused only where it is called.
CODE_MODULES = frozenset({
    "os", "posix", "nt", "sys", "subprocess", "builtins", "__builtin__", "runpy", "shutil", "socket",
    "ctypes", "importlib", "pty", "pickle", "_pickle", "marshal", "copyreg", "copy_reg", "pdb", "timeit",
})  # fmt: skip

STORAGES = {
    "FloatStorage": ("float32", 4), "DoubleStorage": ("float64", 8), "HalfStorage": ("float16", 2),
    "BFloat16Storage": ("bfloat16", 2), "LongStorage": ("int64", 8), "IntStorage": ("int32", 4),
    "ShortStorage": ("int16", 2), "CharStorage": ("int8", 1), "ByteStorage": ("uint8", 1),
    "BoolStorage": ("bool", 1),
}  # fmt: skip

CLASS_HINT = (
    "snncc.export(module, example_input, 'model.snnc') in the training script, "
    "or --model pkg.mod:factory --weights sd.pt"
)
_SETS = ("__builtin__.set", "builtins.set")
# Types of these names in a module of Python itself do nothing but hold data.
_PLAIN_TYPES = frozenset({
    "set", "frozenset", "dict", "list", "tuple", "int", "long", "float", "bool", "complex", "str", "unicode",
    "bytes", "bytearray", "slice", "range", "xrange", "object",
})  # fmt: skip
# Calls that make data; beside them any class, which Python's custom tells by its capital letter.
_DATA_CALLS = frozenset({
    "numpy.dtype", "_codecs.encode", "datetime.datetime", "datetime.date", "datetime.time",
    "datetime.timedelta", "datetime.timezone", "collections.defaultdict", "collections.deque", "torch.device",
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    *(f"numpy.{core}.numeric._frombuffer" for core in ("core", "_core")),
    *(f"{module}.{name}" for module in ("__builtin__", "builtins") for name in _PLAIN_TYPES),
})  # fmt: skip
_ORDERED = "collections.OrderedDict"
_TENSOR = "torch._utils._rebuild_tensor_v2"
_PARAMETERS = ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state")


@dataclass(frozen=True)
class Global:
    """A name the stream mentions, as ``module.name``."""

    name: str


@dataclass(frozen=True)
class StorageRef:
    """Bytes of a tensor that lie beside the pickle."""

    dtype: str
    itemsize: int
    key: str
    numel: int


@dataclass(frozen=True)
class TensorRef:
    """A tensor over a storage, which holds all its elements."""

    storage: StorageRef
    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int


class Ordered(dict[Any, Any]):
    """An OrderedDict."""


@dataclass(eq=False)
class Obj:
    """An object made by NEWOBJ and filled by BUILD."""

    cls: str
    state: Any = None
    built: bool = False


class Mark:
    """The stack's mark."""


MARK = Mark()


@dataclass
class _Machine:
    where: str
    members: dict[str, int]
    classes: frozenset[str]
    stack: list[Any] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)
    problems: dict[tuple[str, str], Problem] = field(default_factory=dict)
    harmless: set[tuple[str, str]] = field(default_factory=set)

    def refuse(
        self, code: str, what: str, got: str | None = None, hint: str | None = None, data: bool = False
    ) -> None:
        """Note a problem; with ``data`` it is one of files that torch is to load, and no other."""
        key = (code, f"{what}{got}")
        self.problems.setdefault(key, problem(code, self.where, what, got=got, hint=hint))
        self.harmless.update({key} if data else ())

    def refused(self, root: Any) -> list[Problem]:
        """The problems, without those that do not matter in a checkpoint."""
        kept = isinstance(root, dict)
        return [p for key, p in self.problems.items() if not (kept and key in self.harmless)]

    def pop_mark(self) -> list[Any]:
        at = len(self.stack) - 1
        while self.stack[at] is not MARK:
            at -= 1
        if at < 0:
            raise IndexError("no mark")
        items = self.stack[at + 1 :]
        del self.stack[at:]
        return items


def read_tree(
    data: bytes, where: str, members: dict[str, int], classes: frozenset[str]
) -> tuple[Any, list[Problem]]:
    """The tree that a pickle describes, and everything in it that snncc refuses.

    Objects of other classes are in the tree as :class:`Obj`.

    Args:
        data: the stream.
        where: file, for messages.
        members: size in bytes of each storage, by key.
        classes: full names of the module classes that may be built.

    Raises:
        ModelError: SNNC-M001 if the stream is damaged.
        UnsafeFileError: SNNC-S002 if it is too large or a tensor declares more than its storage.
    """
    if len(data) > MAX_PICKLE:
        raise fail("SNNC-S002", where, "has a pickle that is too large", got=len(data), limit=MAX_PICKLE)
    machine = _Machine(where, members, classes)
    try:
        for op, arg, _position in pickletools.genops(data):
            if op.name == "STOP":
                break
            _step(machine, op.name, arg)
        root = machine.stack[-1]
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, EOFError, OverflowError) as error:
        if machine.problems:
            return None, machine.refused({}) or machine.refused(None)
        raise fail("SNNC-M001", where, "holds a damaged pickle", got=shown(str(error))) from None
    return root, machine.refused(root)


_VALUES = frozenset({
    "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "INT", "LONG", "BINFLOAT", "FLOAT", "BINUNICODE",
    "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE", "STRING", "SHORT_BINSTRING", "BINSTRING", "BINBYTES",
    "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
})  # fmt: skip
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": set, "EMPTY_TUPLE": tuple}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_IGNORED = frozenset({"PROTO", "FRAME"})


def _step(m: _Machine, op: str, arg: Any) -> None:
    """Execute one opcode."""
    if op in _VALUES:
        m.stack.append(arg)
    elif op in _CONSTANTS:
        m.stack.append(_CONSTANTS[op])
    elif op in _EMPTY:
        m.stack.append(_EMPTY[op]())
    elif op in _TUPLES:
        _make_tuple(m, _TUPLES[op])
    elif op == "TUPLE":
        items = m.pop_mark()
        m.stack.append(tuple(items))
    elif op == "MARK":
        m.stack.append(MARK)
    elif op in _STEPS:
        _STEPS[op](m, arg)
    elif op not in _IGNORED:
        m.refuse("SNNC-S001", "uses a pickle instruction that torch.save never writes", got=op)
        raise ValueError(f"instruction {op}")


def _make_tuple(m: _Machine, count: int) -> None:
    if len(m.stack) < count:
        raise IndexError("stack is empty")
    items = m.stack[-count:]
    del m.stack[-count:]
    m.stack.append(tuple(items))


def _put(m: _Machine, arg: Any) -> None:
    m.memo[int(arg)] = m.stack[-1]


def _memoize(m: _Machine, _arg: Any) -> None:
    m.memo[len(m.memo)] = m.stack[-1]


def _get(m: _Machine, arg: Any) -> None:
    m.stack.append(m.memo[int(arg)])


def _pop(m: _Machine, _arg: Any) -> None:
    m.stack.pop()


def _append(m: _Machine, _arg: Any) -> None:
    item = m.stack.pop()
    _list(m).append(item)


def _appends(m: _Machine, _arg: Any) -> None:
    items = m.pop_mark()
    _list(m).extend(items)


def _list(m: _Machine) -> list[Any]:
    if isinstance(m.stack[-1], Obj):
        return []  # what an object holds beside its state is of no interest
    if type(m.stack[-1]) is not list:
        raise TypeError("appends to what is no list")
    return m.stack[-1]


def _set_item(m: _Machine, _arg: Any) -> None:
    value, key = m.stack.pop(), m.stack.pop()
    _dict(m)[key] = value


def _set_items(m: _Machine, _arg: Any) -> None:
    items = m.pop_mark()
    _dict(m).update(zip(items[::2], items[1::2], strict=True))


def _dict(m: _Machine) -> dict[Any, Any]:
    if isinstance(m.stack[-1], Obj):
        return {}
    if not isinstance(m.stack[-1], dict):
        raise TypeError("sets an item of what is no dict")
    return m.stack[-1]


def _add_items(m: _Machine, _arg: Any) -> None:
    items = m.pop_mark()
    if isinstance(m.stack[-1], Obj):
        return
    if type(m.stack[-1]) is not set:
        raise TypeError("adds to what is no set")
    m.stack[-1].update(items)


def _frozen(m: _Machine, _arg: Any) -> None:
    items = m.pop_mark()
    m.stack.append(frozenset(items))


def _global(m: _Machine, arg: Any) -> None:
    module, _, name = arg.partition(" ")
    m.stack.append(_named(m, f"{module}.{name}"))


def _stack_global(m: _Machine, _arg: Any) -> None:
    name, module = m.stack.pop(), m.stack.pop()
    if not (isinstance(name, str) and isinstance(module, str)):
        raise TypeError("a global's name is no text")
    m.stack.append(_named(m, f"{module}.{name}"))


def _named(m: _Machine, name: str) -> Global:
    if name.split(".")[0] in CODE_MODULES and name not in _DATA_CALLS:
        m.refuse("SNNC-S001", "mentions code that could do anything", got=shown(name))
    return Global(name)


def _new_object(m: _Machine, _arg: Any) -> None:
    args, cls = m.stack.pop(), m.stack.pop()
    if not isinstance(cls, Global):
        raise TypeError("makes an object of what is no class")
    if cls.name not in m.classes:
        _refuse_class(m, cls.name)
    elif args != ():
        m.refuse("SNNC-S001", "passes arguments to a constructor", got=shown(cls.name))
    m.stack.append(Obj(cls.name))


def _refuse_class(m: _Machine, name: str) -> None:
    what = "holds a class that is not on the allow-list"
    m.refuse("SNNC-M002", what, got=shown(name), hint=CLASS_HINT, data=True)


def _reduce(m: _Machine, _arg: Any) -> None:
    args, function = m.stack.pop(), m.stack.pop()
    if not isinstance(function, Global) or not isinstance(args, tuple):
        raise TypeError("calls what is no function")
    if function.name == _ORDERED and args in ((), ([],)):
        m.stack.append(Ordered())
    elif function.name in _SETS and len(args) <= 1:
        m.stack.append(set(*args))
    elif function.name == _TENSOR:
        m.stack.append(_tensor(m, args))
    elif function.name in _PARAMETERS and len(args) in (3, 4) and isinstance(args[0], TensorRef):
        m.stack.append(args[0])
    else:
        data = _makes_data(function.name)
        m.refuse("SNNC-S001", "calls a function while it loads", got=shown(function.name), data=data)
        m.stack.append(Obj(function.name))


def _makes_data(name: str) -> bool:
    """Whether what is called makes an object that nothing is done with."""
    return name in _DATA_CALLS or (name.rpartition(".")[2][:1].isupper() and name != _ORDERED)


def _build(m: _Machine, _arg: Any) -> None:
    state, target = m.stack.pop(), m.stack[-1]
    if isinstance(target, Ordered) and isinstance(state, dict):
        return  # a state dict's version numbers
    if not isinstance(target, Obj):
        raise TypeError("builds what is no object")
    if target.built:
        m.refuse("SNNC-M009", "builds an object twice", got=shown(target.cls))
    # torch copies the entries now; what the stream writes into this dict later is not in the object.
    target.state, target.built = dict(state) if isinstance(state, dict) else state, True


def _persistent(m: _Machine, _arg: Any) -> None:
    pid = m.stack.pop()
    kind, cls, key, _device, numel = pid
    storage = cls.name.removeprefix("torch.") if isinstance(cls, Global) else ""
    if kind != "storage" or storage not in STORAGES or type(key) is not str or type(numel) is not int:
        raise ValueError("a tensor's storage is ill-described")
    dtype, itemsize = STORAGES[storage]
    if key not in m.members:
        raise ValueError(f"the storage {shown(key)!r} is missing")
    if numel < 0 or numel * itemsize != m.members[key]:
        got = f"{numel * itemsize} bytes declared, {m.members[key]} there"
        raise fail("SNNC-S002", m.where, f"storage {shown(key)!r} has another size than declared", got=got)
    m.stack.append(StorageRef(dtype, itemsize, key, numel))


def _tensor(m: _Machine, args: tuple[Any, ...]) -> TensorRef:
    storage, offset, size, stride = args[:4]
    whole = isinstance(storage, StorageRef) and isinstance(size, tuple) and isinstance(stride, tuple)
    if not whole or len(size) != len(stride) or len(size) > 16 or len(args) not in (6, 7):
        raise ValueError("a tensor is ill-described")
    if any(type(n) is not int or n < 0 for n in (offset, *size, *stride)):
        raise ValueError("a tensor's size is no count")
    if beyond_storage(size, stride, offset, storage.numel):
        what = "a tensor is larger than its storage"
        raise fail("SNNC-S002", m.where, what, got=f"shape {list(size)}", limit=f"{storage.numel} elements")
    return TensorRef(storage, size, stride, offset)


def beyond_storage(size: tuple[int, ...], stride: tuple[int, ...], offset: int, elements: int) -> bool:
    """Whether a tensor reads beyond its storage or, by a stride of 0, has more elements than it."""
    count, last = 1, offset
    for n, step in zip(size, stride, strict=True):
        count *= n
        last += max(n - 1, 0) * step
    return count > elements or (count > 0 and last >= elements)


_STEPS = {
    "BINPUT": _put,
    "LONG_BINPUT": _put,
    "PUT": _put,
    "MEMOIZE": _memoize,
    "BINGET": _get,
    "LONG_BINGET": _get,
    "GET": _get,
    "POP": _pop,
    "APPEND": _append,
    "APPENDS": _appends,
    "SETITEM": _set_item,
    "SETITEMS": _set_items,
    "ADDITEMS": _add_items,
    "FROZENSET": _frozen,
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    "NEWOBJ": _new_object,
    "REDUCE": _reduce,
    "BUILD": _build,
    "BINPERSID": _persistent,
}
