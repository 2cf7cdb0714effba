"""Params: what a person chose for a run. Flat, with dots: `train.lr` is `lr` in the mapping `train`.

They come from `params.yaml`, and from the command line, which counts more. YAML is read as version 1.2 has it where
that matters: `1e-3` is a number. An element of a list has its number for a name.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import yaml

from fsd.errors import UsageError
from fsd.format.run import Scalar

FILE_NAME = "params.yaml"
VARIABLE_PREFIX = "FSD_PARAM_"

_NO_LETTER = re.compile(r"[^A-Za-z0-9]")


class _Loader(yaml.SafeLoader):
    """Numbers with an exponent need no point."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+\Z"), list("-+0123456789")
)


class Override(NamedTuple):
    """What `-S NAME=TEXT` says."""

    name: str
    text: str
    value: Scalar


def parse_override(said: str) -> Override:
    """Raises UsageError."""
    name, equals, text = said.partition("=")
    if not name or not equals:
        raise UsageError(f"{said!r} sets no param", hint="write NAME=VALUE")
    try:
        value = yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError):
        value = text
    if isinstance(value, dict | list):
        raise UsageError(f"{said!r} sets more than one param", hint="set each by itself: NAME.KEY=VALUE")
    return Override(name, text, _scalar(value))


def parse_params(text: str, what: str) -> dict[str, Scalar]:
    """The params in a file, by name. `what` names it in errors. Raises UsageError."""
    try:
        value = yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"{what} cannot be read: {' '.join(str(error).split())}") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UsageError(f"{what} has no names in it", hint="write NAME: VALUE lines")
    found: dict[str, Scalar] = {}
    for name, scalar in _flat(value, ""):
        if name in found:
            raise UsageError(f"{what} has {name!r} twice", hint="a dot in a name stands for a mapping in a mapping")
        found[name] = scalar
    return found


def _flat(value: Any, name: str) -> Iterator[tuple[str, Scalar]]:
    """The scalars in a value that has that name."""
    if isinstance(value, dict | list) and value:
        inner = value.items() if isinstance(value, dict) else enumerate(value)
        for key, each in inner:
            yield from _flat(each, f"{name}.{key}" if name else str(key))
    elif isinstance(value, dict | list):
        yield name, "{}" if isinstance(value, dict) else "[]"
    else:
        yield name, _scalar(value)


def _scalar(value: Any) -> Scalar:
    """The value as JSON can hold it: dates and infinities are texts."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    return str(value)


def overridden(params: Mapping[str, Scalar], overrides: Iterable[Override]) -> dict[str, Scalar]:
    """The params that count."""
    return {**params, **{override.name: override.value for override in overrides}}


def variables(overrides: Iterable[Override]) -> dict[str, str]:
    """The environment variables by which a command learns of them. Raises UsageError for two of one name."""
    found: dict[str, str] = {}
    for override in overrides:
        name = VARIABLE_PREFIX + _NO_LETTER.sub("_", override.name)
        if name in found:
            raise UsageError(f"two params would both be {name}", hint="set one of them in the file")
        found[name] = override.text
    return found


def rewritten(text: str, overrides: Iterable[Override], what: str) -> str:
    """A file of params with other values, and everything else (comments, order) as it was.

    Raises UsageError for a param that is not in it, or written in a way that has other values change as well.
    """
    for override in overrides:
        wanted = overridden(parse_params(text, what), [override])
        node = _find(yaml.compose(text, _Loader), override.name)
        if node is None:
            raise UsageError(f"{what} has no param {override.name!r}", hint="add it there first")
        start, end = node.start_mark.index, node.end_mark.index
        # Where there is no value, the colon comes right before.
        text = text[:start] + " " * (start == end) + json.dumps(override.value) + text[end:]
        try:
            found = parse_params(text, what)
        except UsageError:
            found = {}
        if found != wanted:
            raise UsageError(f"{override.name!r} cannot be changed alone in {what}", hint="change the file yourself")
    return text


def _find(node: yaml.Node | None, name: str) -> yaml.ScalarNode | None:
    """The scalar with that name below a node."""
    if isinstance(node, yaml.ScalarNode):
        return None if name else node
    if isinstance(node, yaml.MappingNode):
        inner = [(key.value, value) for key, value in node.value if isinstance(key, yaml.ScalarNode)]
    elif isinstance(node, yaml.SequenceNode):
        inner = [(str(number), value) for number, value in enumerate(node.value)]
    else:
        return None
    for key, value in inner:
        if name == key or name.startswith(f"{key}."):
            found = _find(value, name.removeprefix(key).removeprefix("."))
            if found is not None:
                return found
    return None
