"""Condemning: what nothing reaches is written down, to be deleted once its grace is over (`fsd.maintenance.sweep`)."""

from __future__ import annotations

import secrets
from collections.abc import Container, Iterable
from dataclasses import dataclass

from fsd.format.condemned import MAX_PART_KEYS, Condemnation, Listed, encode_condemnation, encode_keys, parse_keys
from fsd.format.keys import COMMITS, CONDEMNED, EXPIRED, MOVED, PACKS, PAGES, RECIPES, SEGMENTS, condemned_key, id_of
from fsd.ids import ID_BYTES, PACK_ID_BYTES
from fsd.maintenance.mark import Reachable
from fsd.repo.repository import Repositories
from fsd.stores.base import ObjectNotFoundError, Store

ORDER = (COMMITS, SEGMENTS, PAGES, RECIPES, EXPIRED, MOVED, PACKS)
"""In which objects are deleted: what names others goes before them."""


@dataclass(frozen=True, slots=True)
class Condemned:
    """What was condemned. Sizes in bytes."""

    objects: int = 0
    bytes: int = 0
    name: str = ""
    """Of the condemnation, '' if there is none."""


async def condemn(
    repositories: Repositories,
    reachable: Reachable,
    *,
    before_us: int | None = None,
    only: Container[str] | None = None,
    dry_run: bool = False,
) -> Condemned:
    """Condemn what is not reachable, was written before `before_us` by the store's clock (None: whenever), and is not
    condemned yet. With `only`, just what is among these keys, whether it is condemned already or not.

    Killed in between, it has condemned nothing: without its head a condemnation is none.
    """
    store = repositories.store
    known = await _condemned_already(store) if only is None else set()
    found: list[Listed] = []
    size = 0
    for prefix in ORDER:
        async for info in store.list(prefix):
            if only is not None and info.key not in only:
                continue
            listed = Listed(info.key, info.version, info.modified_us)
            is_old = before_us is None or info.modified_us < before_us
            if is_old and listed not in known and not reachable.has(info.key):
                found.append(listed)
                size += info.size
    name = await _write(store, found) if found and not dry_run else ""
    return Condemned(len(found), size, name)


async def _write(store: Store, keys: list[Listed]) -> str:
    name = secrets.token_hex(16)
    parts = [keys[at : at + MAX_PART_KEYS] for at in range(0, len(keys), MAX_PART_KEYS)]
    for number, part in enumerate(parts):
        await store.put_if_absent(condemned_key(name, str(number)), encode_keys(part))
    packs = _ids((listed.key for listed in keys if listed.key.startswith(PACKS)), PACK_ID_BYTES)
    commits = _ids((listed.key for listed in keys if listed.key.startswith(COMMITS)), ID_BYTES)
    await store.put_if_absent(condemned_key(name), encode_condemnation(Condemnation(len(parts), packs, commits)))
    return name


def _ids(keys: Iterable[str], size: int) -> frozenset[bytes]:
    return frozenset(found for key in keys if (found := id_of(key, size)) is not None)


async def _condemned_already(store: Store) -> set[Listed]:
    """What all condemnations that stand list."""
    names: set[str] = set()
    parts: list[str] = []
    async for info in store.list(CONDEMNED):
        name, dot, part = info.key.removeprefix(CONDEMNED).partition(".")
        if not dot:
            names.add(name)
        elif part.isdigit():
            parts.append(info.key)
    known: set[Listed] = set()
    for key in parts:
        if key.removeprefix(CONDEMNED).partition(".")[0] in names:
            try:
                known.update(parse_keys((await store.get(key)).data, key))
            except ObjectNotFoundError:
                continue  # it was carried out meanwhile
    return known
