"""What two runs must have in common to be the same, beside their code and what they read in the mount: what was said,
params, surroundings, what was declared, pins. A reason for people for each that is not.

Pure functions over what records say: one of a run that was, one as it would be written now.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Any

from fsd.format.run import RunPin, RunStart, Scalar

PYTHONS = ("python", "python3", "venv")
"""Members of an environment that say what a Python has."""

_SHOWN_CHARACTERS = 40


def differing(old: RunStart, new: RunStart) -> list[str]:
    """Why the two are not the same, a line each; those first that say most. [] if they are."""
    return list(
        dict.fromkeys(
            chain(
                _params(old.params, new.params),
                _declared(old, new),
                _surroundings(old.environment, new.environment),
                _by_name("dependency", old.dependencies, new.dependencies, _no_values),
                _stdin(old.stdin, new.stdin),
                _pins(old.pins, new.pins),
            )
        )
    )


def pins_of(pins: tuple[RunPin, ...]) -> dict[str, RunPin]:
    """The pins that people made, by their links."""
    return {pin.link: pin for pin in pins if not pin.is_output}


Values = Callable[[Any, Any], str]
"""How a change is shown, behind a name."""


def _arrow(old: Any, new: Any) -> str:
    return f" {_shown(old)} → {_shown(new)}"


def _no_values(old: Any, new: Any) -> str:  # noqa: ARG001
    return " changed"


def _shown(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"


def _by_name(what: str, old: Mapping[str, Any], new: Mapping[str, Any], shown: Values) -> Iterator[str]:
    prefix = what if what.endswith(".") else f"{what} "
    for name in sorted({*old, *new}):
        if name not in new:
            yield f"{prefix}{name} is gone"
        elif name not in old:
            yield f"{prefix}{name} is new"
        elif (old[name], type(old[name])) != (new[name], type(new[name])):
            yield f"{prefix}{name}{shown(old[name], new[name])}"


def _params(old: Mapping[str, Scalar], new: Mapping[str, Scalar]) -> Iterator[str]:
    return _by_name("params.", old, new, _arrow)


def _declared(old: RunStart, new: RunStart) -> Iterator[str]:
    # (Which command, and where, is the step: only runs of one are compared.)
    if sorted(old.outputs) != sorted(new.outputs):
        yield f"-o: {_listed(old.outputs)} → {_listed(new.outputs)}"
    if sorted(old.code_paths) != sorted(new.code_paths):
        yield f"--code: {_listed(old.code_paths)} → {_listed(new.code_paths)}"
    if sorted(old.overrides) != sorted(new.overrides):
        # Equal values are not enough: who reads the file alone sees what it says. Where values differ, that is said.
        if old.params == new.params:
            yield f"-S: {_listed(old.overrides)} → {_listed(new.overrides)}"
    else:
        yield from _by_name("params.yaml:", old.in_file, new.in_file, _arrow)


def _listed(paths: tuple[str, ...]) -> str:
    return ", ".join(sorted(paths)) or "none"


def _surroundings(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for what in ("program", "interpreter"):
        before, now = _member(old, what), _member(new, what)
        if now and now.get("blake3") is None:
            yield f"environment: {now.get('path')} cannot be read"
        elif before.get("blake3") != now.get("blake3"):
            yield f"environment: {now.get('path') or before.get('path')} changed"
    for what in PYTHONS:
        yield from _python(_member(old, what), _member(new, what))
    for name in ("system", "architecture", "gpus", "driver"):
        was, is_now = _member(old, "machine").get(name), _member(new, "machine").get(name)
        if was != is_now:
            yield f"environment: {name}{_arrow(_flat(was), _flat(is_now))}"
    yield from _by_name("environment:", _member(old, "variables"), _member(new, "variables"), _arrow)
    others, others_now = (dict.fromkeys(each.get("other_variables") or (), "") for each in (old, new))
    yield from _by_name("environment:", others, others_now, _no_values)
    if others == others_now and old.get("digest") != new.get("digest"):
        yield "environment: a variable whose value is not recorded changed"


def _python(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    if problem := new.get("problem") or old.get("problem"):
        yield f"environment: {problem}"
    elif old.get("version") != new.get("version"):
        yield f"environment: Python{_arrow(old.get('version'), new.get('version'))}"
    elif old.get("blake3") != new.get("blake3"):
        yield f"environment: {new.get('path')} changed"
    yield from _by_name("package", _member(old, "packages"), _member(new, "packages"), _arrow)
    sources = _member(new, "sources")
    yield from (f"the source in {path} is too much to be compared" for path, digest in sources.items() if not digest)
    yield from _by_name("the source in", _member(old, "sources"), sources, _no_values)


def _member(environment: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = environment.get(name)
    return found if isinstance(found, Mapping) else {}


def _flat(value: Any) -> Any:
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else value or "none"


def _stdin(old: str | None, new: str | None) -> Iterator[str]:
    if new is None:
        yield "it could read its standard input: add </dev/null"
    elif old != new:
        yield "its standard input is another"


def _pins(old: tuple[RunPin, ...], new: tuple[RunPin, ...]) -> Iterator[str]:
    before, now = pins_of(old), pins_of(new)
    for link in sorted({*before, *now}):
        if link not in now:
            yield f"pin {link} is gone"
        elif link not in before:
            yield f"pin {link} is new"
        elif before[link].path != now[link].path:
            yield f"pin {link}{_arrow(before[link].path or '.', now[link].path or '.')}"
