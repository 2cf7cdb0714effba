"""Every bound on a wait, a queue, a cache and a retry: named here, configurable by this name, the reason beside it.

(Sizes that belong to the format are not choices: they are in `fsd.format.limits`.)
"""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


@dataclass(frozen=True, slots=True)
class Limits:
    """Durations in seconds, sizes in bytes."""

    # --- store
    store_threads: int = 32
    """Calls into a store at once; each holds a thread while it waits for the network."""
    store_timeout_s: float = 30.0
    """One request. Long enough for 16 MiB over a bad link."""
    store_silence_s: float = 4.0
    """A read of a bucket that hears nothing for so long is asked for again: who waited while the network was gone reads
    within 5 s of its return. Google's first byte comes within a second."""
    store_connections: int = 192
    """The same over a network, where waiting is all they do: `fetch_requests` twice, if half of them are slow, and as
    many again for metadata and uploads, so that stalled reads hold up nothing else."""
    store_attempts: int = 8
    """Tries of one call over a network that are not a read of a pack (which `fetch_attempts` bounds). With one request
    in five failing, one call in 400,000 does."""
    store_retry_s: float = 60.0
    """After this long no call is tried again."""
    hedge_ratio: float = 2.0
    """A read that takes so many times as long as 95 in 100 of its size is asked for a second time."""
    hedge_min_s: float = 0.25
    """No read is unusually slow before: several round trips, and less than a person notices."""
    hedge_first_s: float = 2.0
    """The same while nothing is known of a store: 8 MiB take as long at 4 MiB/s."""
    hedge_share: float = 0.05
    """Of all reads, those that may be asked for twice: what is slow in one read of twenty is no tail."""
    hedge_burst: float = 16.0
    """Unused, that share is saved up to so many."""
    upload_bytes: int = 128 * MIB
    """Sent and not yet acknowledged, of all uploads over a network together."""

    # --- metadata in memory
    page_memory_bytes: int = 48 * MIB
    """Decoded pages kept. A million-file random epoch does not need them: the inode table holds what a read needs."""
    open_trees: int = 64
    """Tree roots kept decoded (about 150 bytes a page: 250 KB for 1.5 million files)."""
    listing_read_ahead_pages: int = 32
    """Pages of one long listing fetched at once: 5 MiB. A 30 ms round trip is then a tenth of the time to show them."""
    refs_ttl_s: float = 2.0
    """How old an answer about a branch, tag or repository is before it is asked for again; twice as old, it is waited
    for. With a kernel entry's life that is at most 5 s."""
    refs_wait_s: float = 1.0
    """How long a lookup waits for news of a name that is known, before it takes what is known."""

    fresh_hints_s: float = 10.0
    """A page or recipe whose placements led nowhere is loaded anew from the store, and not again for so long: where a
    pack is really gone, each of its readers would ask."""

    # --- fetching
    fetch_requests: int = 64
    """Ranged GETs in flight for reads and read-ahead: 64 readers of small files each have theirs."""
    fetch_ahead_requests: int = 16
    """Of these, for read-ahead: the rest is kept for readers."""
    fetch_slow_s: float = 2.0
    """A GET in flight for longer does not count against `fetch_requests` any more (up to as many again)."""
    fetch_bytes: int = 64 * MIB
    """Bytes in flight: asked for and not yet written to a mirror. All in memory; a 2 Gbit/s link of 30 ms holds 8."""
    range_bytes: int = 8 * MIB
    """The longest coalesced GET: on a 2 Gbit/s link 8 MiB take as long as a 30 ms round trip."""
    range_gap_bytes: int = 64 * KIB
    """Unwanted bytes worth reading over rather than paying another request."""
    window_min_bytes: int = 512 * KIB
    window_max_bytes: int = 64 * MIB
    """Read-ahead of one sequentially read file, doubled from the least to the most."""
    widen_max_bytes: int = 8 * MIB
    """How far a miss among recent misses of the same pack widens."""
    read_deadline_s: float = 300.0
    """One read(2). EIO kills a training job, waiting for ever kills a cluster."""
    fetch_attempts: int = 100
    """Tries for one range before the read fails: as many as `read_deadline_s` lets through. A server that is away for a
    minute is no reason to kill a training job."""
    retry_min_s: float = 0.1
    retry_max_s: float = 4.0
    """Once the store is back, whoever waited for it reads within 5 s."""

    # --- cache on disk
    cache_bytes: int = 50 * GIB
    cache_low_water: float = 0.97
    """Eviction goes down to this share of the size, so that it runs in batches."""
    extent_bytes: int = 2 * MIB
    """What is evicted at once: a hole is punched for each, and its last use is kept."""
    flush_interval_s: float = 5.0
    """How much fetching a power cut can cost."""
    flush_bytes: int = 256 * MIB
    open_mirrors: int = 2048
    """File descriptors kept open: all mirrors of 50 GiB of small files. At most half of RLIMIT_NOFILE, too."""

    # --- mount
    read_states: int = 4096
    """Files whose position and chunk list are remembered at once."""
    read_pieces: int = 65_536
    """Chunks in all of those lists: about 400 bytes each. Recipes count among the decoded pages instead."""
    inline_hash_bytes: int = 1 * MIB
    """Hashed in the event loop; more goes to a thread."""
    worker_threads: int = 8
    """Threads that decompress, hash and touch the cache's disk."""
    entry_timeout_s: float = 1.0
    """How long the kernel may believe a name that can move: repositories, branches, tags."""
    immutable_timeout_s: float = 30 * 86_400.0
    """The same for what can never change."""
    known_store_wait_s: float = 5.0
    """A store that was mounted before and does not answer for so long is mounted as it is known."""
    ready_timeout_s: float = 30.0
    """`fsd mount` waits this long for the daemon."""
    unmount_timeout_s: float = 30.0
    stop_wait_s: float = 20.0
    """A daemon that is told to stop waits so long for those who use the mount, before it takes it away from them.
    systemd's TimeoutStopSec has to be longer."""
    status_interval_s: float = 5.0
    """How often the service manager hears what the daemon does."""
    kernel_read_ahead_bytes: int = 1 * MIB
    """Written to the mount's bdi where we may (root): 1 MiB READs instead of 128 KiB."""
    max_background: int = 512
    """Asynchronous requests the kernel may have open; its default of 12 lets a dozen stalled reads block everybody."""

    # --- publishing
    publish_threads: int = 4
    """Threads that read, chunk, hash and compress. The work is half waiting for memory: two a core."""
    publish_queue_bytes: int = 64 * MIB
    """Read and not yet packed."""
    pack_bytes: int = 48 * MIB
    """A pack of small files is closed at this size."""
    own_pack_bytes: int = 8 * MIB
    """A file this large gets a pack of its own."""
    upload_tasks: int = 6
    """Packs being written at once: one fills a link of 2 Gbit/s nearly, but packs of 10 MB are half waiting. A kill
    costs as many packs of small files."""
    publish_requests: int = 32
    """Small requests of a publisher at once: pages read and written, packs asked for. Each a round trip and 100 KB."""
    ref_attempts: int = 5
    """Tries of a compare-and-swap that lost to somebody whose change does not conflict with ours."""
    lease_s: float = 900.0
    """A publisher's lease holds so long after it was written last: gc waits for that after a publisher was killed."""
    lease_margin_s: float = 240.0
    """So long before its end a publisher stops trusting it: moving a ref is tried for `store_retry_s`, and the clocks
    of a store's servers may differ."""
    refs_index_wait_s: float = 10.0
    """Keeping `refs/index` after a ref has moved: only readers over the web need it, and the next move mends it."""


DEFAULT_LIMITS = Limits()
