"""Read YAML, JSON or a dict into a dataclass: an unknown key or a wrong type is one line that names the nearest."""

import dataclasses
import difflib
import hashlib
import json
import math
import re
import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

Spec = TypeVar("Spec")
_SCIENTIFIC = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")


class SpecError(ValueError):
    """One line: the file, the path of keys inside it, what is wrong."""

    def __init__(self, line: str):
        super().__init__(" ".join(line.splitlines()))


def nearest(name: object, known: Iterable[str]) -> str:
    """What to add to "unknown x": ", did you mean 'y'?", or the known names where none is near."""
    names = [str(each) for each in known]
    folded = {each.casefold(): each for each in reversed(names)}
    close = difflib.get_close_matches(str(name).casefold(), folded, n=1)
    if close:
        return f", did you mean {folded[close[0]]!r}?"
    return f"; known: {', '.join(names[:12])}{', …' if len(names) > 12 else ''}" if names else ""


def read(cls: type[Spec], source: Path | str | Mapping[str, Any]) -> Spec:
    """A `cls` from a YAML file, a `.json` file or a mapping. Raises SpecError.

    Hints understood: nested dataclasses, bool, int, float, str, Any, Literal, Optional and other unions, list, tuple,
    dict with str keys. An int may stand for a float, a bool never for an int; YAML reads `1e-3` as text, here it is a
    float.
    """
    if isinstance(source, Mapping):
        return _dataclass(cls, source, "")
    path = Path(source)
    try:
        return _dataclass(cls, _parse(path), "")
    except SpecError as error:
        raise SpecError(f"{source}: {error}") from None


def plain(value: Any) -> Any:
    """`value` as dicts, lists, str, numbers, bools and None; a whole float becomes an int: 1 and 1.0 are one spec."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value) if field.init}
    if isinstance(value, Mapping):
        if strange := [key for key in value if not isinstance(key, str)]:
            raise TypeError(f"a key of a spec is text, not {strange[0]!r}")
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value


def dump(value: Any) -> str:
    """Canonical JSON of a dataclass or plain value: keys sorted, no spaces, no NaN; `read` takes it back."""
    return json.dumps(plain(value), sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def digest(value: Any) -> str:
    """sha256 of the canonical JSON, in hex."""
    return hashlib.sha256(dump(value).encode()).hexdigest()


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice (looking before `<<` merges, which may override)."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        _refuse_twice(key.value for key, _ in node.value)
        return node


def _refuse_twice(keys: Iterable[Any]) -> None:
    seen: set[str] = set()
    for key in map(str, keys):
        if key in seen:
            raise SpecError(f"the key {key!r} is given twice")
        seen.add(key)


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    _refuse_twice(key for key, _ in pairs)
    return dict(pairs)


def _parse(path: Path) -> Any:
    if not path.is_file():
        folder = sorted(each.name for each in path.parent.iterdir()) if path.parent.is_dir() else []
        raise SpecError(f"no such file{nearest(path.name, folder)}")
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            return json.loads(text, object_pairs_hook=_pairs)
        return yaml.load(text, _Loader)
    except SpecError:
        raise
    except (yaml.YAMLError, ValueError) as error:  # not UTF-8, not JSON, not YAML, an impossible date
        raise SpecError(f"cannot be parsed: {' '.join(str(error).split())}") from None


def _wrong(where: str, expected: str, value: Any) -> SpecError:
    shown = repr(value)
    return SpecError(f"{where or 'top'}: expected {expected}, got {shown if len(shown) <= 40 else shown[:37] + '...'}")


def _name(hint: Any) -> str:
    if hint is types.NoneType or hint is None:
        return "nothing"
    if isinstance(hint, type) and not get_args(hint):
        return hint.__name__
    return re.sub(r"[\w.]+\.(\w+)", r"\1", str(hint))  # no names of modules


def _dataclass(cls: type[Spec], value: Any, where: str) -> Spec:
    if isinstance(value, cls):
        return value
    if not isinstance(value, Mapping):
        raise _wrong(where, f"the keys of {cls.__name__}", value)
    hints, fields = get_type_hints(cls), {each.name: each for each in dataclasses.fields(cls) if each.init}  # type: ignore[arg-type]
    dot = f"{where}." if where else ""
    for key in value:
        if key not in fields:
            raise SpecError(f"{dot}{key}: unknown key{nearest(key, [name for name in fields if name not in value])}")
    for name, field in fields.items():
        if name not in value and field.default is field.default_factory is dataclasses.MISSING:
            raise SpecError(f"{dot}{name}: missing, expected {_name(hints[name])}")
    arguments = {name: _value(hints[name], each, dot + name) for name, each in value.items()}
    try:
        return cls(**arguments)
    except ValueError as error:  # what the dataclass's own __post_init__ refuses
        raise SpecError(f"{where or 'top'}: {error}") from None


def _value(hint: Any, value: Any, where: str) -> Any:
    """`value` as `hint` asks, or SpecError."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _dataclass(hint, value, where)
    if origin in (Union, types.UnionType):
        return _union(arguments, value, where)
    if origin is Literal:
        if any(type(value) is type(each) and value == each for each in arguments):
            return value
        raise SpecError(f"{where}: unknown value {value!r}{nearest(value, map(str, arguments))}")
    if hint is float and type(value) in (int, float, str):
        return _float(value, where)
    if list in (hint, origin) and isinstance(value, list | tuple):
        inner = arguments[0] if arguments else Any
        return [_value(inner, each, f"{where}[{index}]") for index, each in enumerate(value)]
    if tuple in (hint, origin) and isinstance(value, list | tuple):
        if not arguments or arguments[-1] is Ellipsis:
            arguments = (arguments[0] if arguments else Any,) * len(value)
        if len(arguments) != len(value):
            raise _wrong(where, f"{len(arguments)} values", value)
        pairs = zip(arguments, value, strict=True)
        return tuple(_value(inner, each, f"{where}[{index}]") for index, (inner, each) in enumerate(pairs))
    if dict in (hint, origin) and isinstance(value, Mapping):
        if strange := [key for key in value if not isinstance(key, str)]:
            raise _wrong(where, "keys that are text (quote it)", strange[0])
        inner = arguments[1] if arguments else Any
        return {key: _value(inner, each, f"{where}.{key}") for key, each in value.items()}
    if hint in (bool, int, str, types.NoneType) and type(value) is hint:
        return value
    if hint in (bool, int, float, str, types.NoneType) or origin in (list, tuple, dict) or hint in (list, tuple, dict):
        raise _wrong(where, _name(hint) + (" (quote it)" if hint is str else ""), value)
    raise TypeError(f"{where}: a spec cannot hold {_name(hint)}")


def _union(arms: tuple[Any, ...], value: Any, where: str) -> Any:
    """The arm of the value's own type, else the first arm that takes it, else the error of an arm that got further."""
    errors = []
    for arm in sorted(arms, key=lambda arm: type(value) is not arm):
        try:
            return _value(arm, value, where)
        except SpecError as error:
            errors.append(error)
    inside = [error for error in errors if not str(error).startswith(f"{where}: expected")]
    raise inside[0] if inside else _wrong(where, " or ".join(map(_name, arms)), value)


def _float(value: int | float | str, where: str) -> float:
    if isinstance(value, str) and not _SCIENTIFIC.fullmatch(value):
        raise _wrong(where, "float", value)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise _wrong(where, "a finite float", value)
    return number
