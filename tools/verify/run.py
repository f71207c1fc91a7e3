"""Verifying a bundle, a cache or a single entry."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from radam_codegen.config import Config, current
from radam_codegen.errors import ArgumentError
from radam_codegen.toolchain.bundle_index import INDEX
from radam_codegen.toolchain.cache.layout import KINDS
from radam_codegen.toolchain.manifest import MANIFEST, find_fault, read_manifest
from radam_codegen.tools.verify.index import index_findings
from radam_codegen.tools.verify.rebuild import machine_code_fault
from radam_codegen.tools.verify.report import Finding, VerifyReport
from radam_codegen.tools.verify.sources import source_fault

__all__ = ["verify"]


@dataclass(frozen=True)
class _Verdict:
    """What one entry came to."""

    fault: str | None
    source: bool = False
    rebuilt: bool = False


def verify(
    folder: str | Path,
    *,
    rebuild: bool = False,
    jobs: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> VerifyReport:
    """Verify that compiled kernels and operators are what this version makes of their plans.

    Every file is compared with its SHA-256 in the manifest, every source with what is rendered
    anew for the kernel's structure, and a bundle with its index. Nothing in the folder is loaded,
    run or changed.

    Args:
        folder: An ahead-of-time bundle, a cache, or one entry of either.
        rebuild: Also compile every source again and compare the libraries byte by byte; this needs
            the very compiler that made them, and for an operator the very Paddle.
        jobs: How many compilers run at once; the CPUs of the process when None.
        on_progress: Called with the number of entries done, and of all.

    Returns:
        The report; ``report.good`` says whether all is well.

    Raises:
        ArgumentError: The folder is not there, or holds nothing to verify.

    Examples:
        >>> import radam_codegen as rc
        >>> report = rc.verify("bundle")  # doctest: +SKIP
        >>> print(report)  # doctest: +SKIP
        bundle: 12 entries, 12 sources rendered anew: all good
    """
    root = Path(folder)
    entries = list(_entries(root))
    if not entries and not os.path.lexists(root / INDEX):
        raise ArgumentError(
            f"{root} holds nothing to verify: it is neither a bundle nor a cache nor an entry of "
            f"one (an entry is a folder with a {MANIFEST})."
        )
    config = current()
    done = 0
    verdicts: list[_Verdict] = []
    with ThreadPoolExecutor(jobs or config.num_threads) as pool:
        for verdict in pool.map(lambda entry: _judge(entry, rebuild, config), entries):
            verdicts.append(verdict)
            done += 1
            if on_progress is not None:
                on_progress(done, len(entries))
    findings = [
        Finding(_place(entry, root), verdict.fault)
        for entry, verdict in zip(entries, verdicts)
        if verdict.fault is not None
    ]
    return VerifyReport(
        folder=root,
        entries=len(entries),
        sources=sum(verdict.source for verdict in verdicts),
        rebuilt=sum(verdict.rebuilt for verdict in verdicts),
        findings=tuple(sorted([*findings, *index_findings(root)])),
    )


def _entries(root: Path) -> Iterator[Path]:
    try:
        if not root.is_dir():
            raise ArgumentError(f"{str(root)!r} is no folder.")
        if root.absolute().parent.name in KINDS:
            yield root.absolute()
            return
        for kind in KINDS:
            if (root / kind).is_dir():
                # A name with a dot is that of an entry in the making, or on its way out.
                yield from sorted(
                    path for path in (root / kind).iterdir() if not path.name.startswith(".")
                )
    except (OSError, ValueError) as error:
        if isinstance(error, ArgumentError):
            raise
        raise ArgumentError(f"{str(root)!r} cannot be read: {error}") from error


def _place(entry: Path, root: Path) -> str:
    return entry.name if entry == root.absolute() else entry.relative_to(root).as_posix()


def _judge(entry: Path, rebuild: bool, config: Config) -> _Verdict:
    fault: str | None = find_fault(entry, entry.name)
    if fault is not None:
        return _Verdict(fault)
    try:
        build = read_manifest(entry)["build"]
        fault = source_fault(entry, build)
        if fault is not None or not rebuild:
            return _Verdict(fault, source=fault is None)
        fault = machine_code_fault(entry, build, config)
        return _Verdict(fault, source=True, rebuilt=fault is None)
    except (OSError, ValueError) as error:  # it was changed while it was looked at
        return _Verdict(f"cannot be read: {error}")
