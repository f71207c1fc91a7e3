"""The folder of built files, one entry per key, and the way by which an entry gets there.

    <cache>/<kind>/<key>/             an entry: complete, never changed, visible by one rename
    <cache>/<kind>/<key>/manifest.json  SHA-256 of its files; its time is that of the last use
    <cache>/<kind>/.new-<key>-*/      an entry in the making, private to one build
    <cache>/<kind>/.old-<key>-*/      an entry on its way out
    <cache>/failed/<key>/             source and compiler log of a build that failed
    <cache>/locks/<key>.lock          locked by who builds the key, by the kernel
    <cache>/locks/<key>.holder        who that is
    <cache>/counters.json             hits, misses and the rest, over all processes

A hit takes no lock. Who finds nothing takes the key's lock, looks again, and builds. Where a file
system has no locks, several build one key, each privately; the first rename wins, and the others
take what it published.
"""

from __future__ import annotations

from radam_codegen.toolchain.cache.failure import BuildFailedError
from radam_codegen.toolchain.cache.store import Entry, content_key, get_or_build
from radam_codegen.toolchain.cache.survey import (
    Cleared,
    Stats,
    clear_cache,
    find_stored,
    stats,
    verify_cache,
)
from radam_codegen.toolchain.cache.usage import Stored, stored_entries

__all__ = [
    "BuildFailedError",
    "Cleared",
    "Entry",
    "Stats",
    "Stored",
    "clear_cache",
    "content_key",
    "find_stored",
    "get_or_build",
    "stats",
    "stored_entries",
    "verify_cache",
]
