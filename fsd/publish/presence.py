"""Whether the packs that the index of known chunks speaks of are in the store: asked once a pack."""

from __future__ import annotations

from collections.abc import Iterable

from fsd.format.keys import pack_key
from fsd.publish.known import KnownChunks
from fsd.repo.repository import Repositories
from fsd.stores.base import ObjectNotFoundError
from fsd.tasks import gather


async def make_sure(repositories: Repositories, known: KnownChunks, chunks: Iterable[tuple[bytes, int]]) -> None:
    """Ask the store for the packs that hold these chunks (id, length): then `find` names only packs that are there, and
    that gc is not about to delete. A lease is taken before the first question."""

    async def ask(pack: bytes) -> None:
        if pack in repositories.leases.sweeping.packs:
            known.mark_gone(pack)
            return
        try:
            await repositories.store.stat(pack_key(pack))
        except ObjectNotFoundError:
            known.mark_gone(pack)
        else:
            known.mark_present(pack)

    doubtful = list(dict.fromkeys(chunks))
    while doubtful:
        packs: dict[bytes, None] = {}
        for chunk, length in doubtful:
            placement = known.find(chunk, length)
            if placement is not None and not known.is_present(placement.pack):
                packs[placement.pack] = None
        if not packs:
            return
        await repositories.leases.take()
        await gather(ask, packs, tasks=repositories.limits.publish_requests)
