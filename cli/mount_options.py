"""The options of `mount -o` and of /etc/fstab, read for a mount of ours.

allow_other, cache_dir=, cache_size=, any limit by its name    as in a configuration file
config=FILE                                                    read this file instead of /etc/fsd/*.toml
no_interpose                                                   as of `fsd mount`
noexec                                                         the kernel's
everything else that mount(8) has for every file system        understood, and without effect here: the mount
                                                               is read-only, of fixed times, without devices
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path

from fsd.errors import UsageError, near_misses
from fsd.limits import Limits

WITHOUT_EFFECT = frozenset(
    name
    for line in (
        "defaults ro rw auto noauto user nouser users owner group nofail _netdev",
        "nodev dev nosuid suid exec sync async dirsync iversion noiversion mand nomand silent loud",
        "atime noatime diratime nodiratime relatime norelatime strictatime nostrictatime lazytime nolazytime",
    )
    for name in line.split()
)
_PREFIXES_WITHOUT_EFFECT = ("x-", "X-", "comment=", "uhelper=", "helper=")

_FLAGS = ("allow_other", "no_interpose", "noexec")
_VALUES = ("cache_dir", "cache_size", "config", "log_format", "log_level", "metrics")


@dataclass(frozen=True, slots=True)
class MountOptions:
    """What the options of one mount say."""

    config: Path | None = None
    allow_other: bool | None = None
    cache_dir: Path | None = None
    settings: dict[str, str] = field(default_factory=dict)
    """The rest, and limits by name, as written."""
    interposed: bool = True
    noexec: bool = False


def parse_options(text: str, *, sloppy: bool = False) -> MountOptions:
    """Read a comma-separated list. `sloppy`: what is not known is left out. Raises UsageError."""
    flags: set[str] = set()
    values: dict[str, str] = {}
    for option in filter(None, text.split(",")):
        name, equals, value = option.partition("=")
        if option in WITHOUT_EFFECT or option.startswith(_PREFIXES_WITHOUT_EFFECT):
            continue
        if option == "remount":
            raise UsageError(
                "a mount of fsd cannot be remounted", hint="unmount it first; 'systemctl reload' does for a service"
            )
        if option in _FLAGS:
            flags.add(option)
        elif equals and (name in _VALUES or name in _limit_names()):
            values[name] = value
        elif not sloppy:
            raise _unknown(name, has_value=bool(equals))
    return MountOptions(
        config=_absolute(values, "config"),
        allow_other=True if "allow_other" in flags else None,
        cache_dir=_absolute(values, "cache_dir"),
        settings={name: value for name, value in values.items() if name not in ("config", "cache_dir")},
        interposed="no_interpose" not in flags,
        noexec="noexec" in flags,
    )


def _limit_names() -> list[str]:
    return [each.name for each in fields(Limits)]


def _absolute(values: dict[str, str], name: str) -> Path | None:
    value = values.get(name)
    if value is None:
        return None
    if not value.startswith("/"):
        raise UsageError(f"the option {name} must be a path that starts with /, not {value!r}")
    return Path(value)


def _unknown(name: str, *, has_value: bool) -> UsageError:
    if name in _FLAGS or name in WITHOUT_EFFECT:
        return UsageError(f"the option {name} takes no value")
    if not has_value and (name in _VALUES or name in _limit_names()):
        return UsageError(f"the option {name} takes a value", hint=f"{name}=…")
    hint = near_misses(name, (*_FLAGS, *_VALUES, *_limit_names(), *sorted(WITHOUT_EFFECT)))
    return UsageError(f"unknown mount option {name!r}", hint=hint or "see 'man 8 mount.fsd'")
