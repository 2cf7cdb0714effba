"""What a mount has done, for Prometheus. The only module that imports prometheus_client; loaded when somebody asks.

Nothing is counted here: the file system and its cache count for themselves, and a scrape reads what they have.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from fsd.cache.cache import CacheStatistics
from fsd.histogram import Histogram
from fsd.vfs.vfs import Vfs

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_CACHE_COUNTERS = {
    "fsd_mirror_read_bytes": ("served_bytes", "Bytes that reads got from mirrors, without the store."),
    "fsd_store_read_bytes": ("fetched_bytes", "Bytes fetched from the store, as they are stored there."),
    "fsd_streamed_bytes": ("streamed_bytes", "Bytes that were served without being kept, for want of room."),
    "fsd_fetches": ("fetched_requests", "Requests to the store for ranges of packs."),
    "fsd_fetch_retries": ("retries", "Requests that were tried again."),
    "fsd_fetch_failures": ("failures", "Ranges that could not be fetched."),
    "fsd_corrupt_chunks": ("corrupt_chunks", "Chunks that were bad in the store, twice."),
    "fsd_dropped_chunks": ("dropped_chunks", "Chunks found changed in the cache after a restart."),
    "fsd_index_failures": ("index_failures", "Failures of the cache's index."),
    "fsd_evicted_bytes": ("evicted_bytes", "Bytes that the cache let go of to make room."),
    "fsd_evicted_chunks": ("evicted_chunks", "Chunks that the cache let go of to make room."),
}
"""Counters of the cache: what they are called, where they come from, what they mean."""

_CACHE_GAUGES = {
    "fsd_cache_limit_bytes": ("limit_bytes", "What the cache may take on disk."),
    "fsd_cache_pinned_bytes": ("pinned_bytes", "What is not to be evicted."),
    "fsd_fetches_in_flight": ("in_flight_requests", "Requests to the store under way."),
    "fsd_fetch_bytes_in_flight": ("in_flight_bytes", "Bytes asked for and not yet in a mirror."),
    "fsd_fetches_waiting": ("waiting_requests", "Ranges that wait for a request to end."),
}

_CACHE_PARTS = {"mirrors": "mirror_bytes", "objects": "object_bytes", "index": "index_bytes"}


class MountCollector(Collector):
    """Reads the counters of one mount."""

    def __init__(self, vfs: Vfs) -> None:
        self._vfs = vfs

    def collect(self) -> Iterator[Metric]:
        """All metrics as they are now."""
        yield from self._of_mount()
        yield from _of_cache(self._vfs.cache_statistics())
        yield _histogram("fsd_waiting_read_seconds", "Reads that were not at hand.", self._vfs.read_seconds)
        yield _histogram("fsd_fetch_seconds", "Requests to the store for ranges of packs.", self._vfs.fetch_seconds)

    def _of_mount(self) -> Iterator[Metric]:
        vfs = self._vfs
        about = GaugeMetricFamily("fsd_mount", "The mount.", labels=("store", "mountpoint"))
        about.add_metric((vfs.repositories.store.url, str(vfs.about.get("mountpoint", ""))), 1)
        yield about
        requests = CounterMetricFamily("fsd_requests", "Requests of the kernel.", labels=("kind",))
        for kind, number in sorted(vfs.requests.items()):
            requests.add_metric((kind,), number)
        yield requests
        yield CounterMetricFamily("fsd_read_bytes", "Bytes that the kernel got; not those that it had.", vfs.read_bytes)
        yield CounterMetricFamily("fsd_errors", "Errors that somebody got instead of bytes.", vfs.errors.total)
        yield GaugeMetricFamily("fsd_waiting_reads", "Reads that wait now.", vfs.waiting_reads)


def _of_cache(found: CacheStatistics) -> Iterator[Metric]:
    for name, (member, meaning) in _CACHE_COUNTERS.items():
        yield CounterMetricFamily(name, meaning, getattr(found, member))
    for name, (member, meaning) in _CACHE_GAUGES.items():
        yield GaugeMetricFamily(name, meaning, getattr(found, member))
    parts = GaugeMetricFamily("fsd_cache_bytes", "What the cache takes on disk.", labels=("part",))
    for part, member in _CACHE_PARTS.items():
        parts.add_metric((part,), getattr(found, member))
    yield parts


def _histogram(name: str, meaning: str, counted: Histogram) -> Metric:
    bounds: Iterable[str] = (*map(str, counted.steps), "+Inf")
    buckets = list(zip(bounds, map(float, counted.cumulative()), strict=True))
    return HistogramMetricFamily(name, meaning, buckets, counted.total)


def exposition(vfs: Vfs) -> bytes:
    """The text that Prometheus reads: of the mount, and of the process that serves it."""
    registry = CollectorRegistry()
    registry.register(MountCollector(vfs))
    ProcessCollector(registry=registry)
    return generate_latest(registry)
