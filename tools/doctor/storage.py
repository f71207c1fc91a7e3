"""Where compiled files are: the cache, and a bundle."""

from __future__ import annotations

import os
import shlex
import shutil
import stat
import tempfile
from pathlib import Path

from radam_codegen.config import Config
from radam_codegen.errors import ArtifactError
from radam_codegen.tools.doctor.findings import (
    FAILURE,
    OK,
    WARNING,
    Finding,
    Fix,
    unless_off,
)

__all__ = ["check_bundle", "check_cache"]

#: A kernel takes about 100 KB, the operator 1 MB.
_LITTLE_SPACE = 64 << 20
_ELSEWHERE = Fix("Or use another folder.", "export RADAM_CODEGEN_CACHE_DIR=/path/to/folder")


def check_cache(config: Config) -> list[Finding]:
    """Who may write to the cache, whether we can, what is in it, and what is damaged."""
    from radam_codegen.toolchain.cache.folders import check_folders
    from radam_codegen.toolchain.cache.layout import KINDS

    root = config.cache_dir
    try:
        for kind in KINDS:
            check_folders(root, kind)
    except ArtifactError as error:
        fixes = (
            Fix("Remove it; what it held is compiled again.", f"rm -r {shlex.quote(str(root))}"),
            Fix("Or, if you trust all that is in it, close it.", f"chmod -R go-w {_quoted(root)}"),
            _ELSEWHERE,
        )
        cause = f"It is refused, and nothing is built or loaded. {error}"
        return [Finding("cache", unless_off(config, FAILURE), _owner(root), cause, fixes)]
    problem = _write_problem(root)
    if problem:
        cause = (
            "It cannot be written, so a temporary folder takes its place, and each process "
            "compiles anew."
        )
        ways = (
            Fix("Make it writable.", f"mkdir -p {_quoted(root)} && chmod u+rwx {_quoted(root)}"),
            _ELSEWHERE,
        )
        return [
            Finding("cache", unless_off(config, WARNING), f"{root}: {problem}", cause, ways),
        ]
    findings = [_noexec(config, root)] if _is_noexec(root) else []
    return [*findings, *_contents(config, root)]


def _contents(config: Config, root: Path) -> list[Finding]:
    from radam_codegen.toolchain.cache.usage import stored_entries
    from radam_codegen.toolchain.manifest import find_fault

    entries = stored_entries(root)
    size = sum(entry.size for entry in entries)
    free = shutil.disk_usage(_nearest(root)).free
    found = (
        f"{_owner(root)}; {len(entries)} entries, {_bytes(size)} of at most "
        f"{_bytes(config.cache_size)}; {_bytes(free)} free on its disk"
    )
    findings = [Finding("cache", OK, found)]
    if free < _LITTLE_SPACE:
        findings = [
            Finding(
                "cache",
                unless_off(config, WARNING),
                found,
                "Little is left on its disk. Where that is full, a temporary folder is used.",
                (Fix("Make room.", f"df -h {_quoted(_nearest(root))}"), _ELSEWHERE),
            )
        ]
    for entry in entries:
        fault = find_fault(entry.folder, entry.key)
        if fault is not None:
            findings.append(
                Finding(
                    "cache entry",
                    unless_off(config, WARNING),
                    f"{entry.folder}: {fault}",
                    "It is damaged. It will not be loaded, but compiled again when it is wanted.",
                    (
                        Fix(
                            "Nothing has to be done; or remove it.",
                            f"rm -r {_quoted(entry.folder)}",
                        ),
                    ),
                )
            )
    return findings


def check_bundle(config: Config) -> list[Finding]:
    """The ahead-of-time bundle, where one is named."""
    if config.aot is None:
        if config.mode != "aot-only":
            return []
        return [
            Finding(
                "bundle",
                FAILURE,
                "none is named",
                "Mode aot-only takes kernels from a bundle and from nowhere else.",
                (
                    Fix("Name one.", "export RADAM_CODEGEN_AOT=/path/to/bundle"),
                    Fix("Or let kernels be compiled.", "unset RADAM_CODEGEN_MODE"),
                ),
            )
        ]
    from radam_codegen.toolchain.bundle import open_bundle

    try:
        return [Finding("bundle", OK, f"{config.aot}: {open_bundle(config.aot).describe()}")]
    except ArtifactError as error:
        status = FAILURE if config.mode == "aot-only" else WARNING
        return [
            Finding(
                "bundle",
                unless_off(config, status),
                str(error),
                "It is not used.",
                (
                    Fix("Make it again.", f"radam-codegen aot --all --out {_quoted(config.aot)}"),
                    Fix("Or do without.", "unset RADAM_CODEGEN_AOT RADAM_CODEGEN_MODE"),
                ),
            )
        ]


def _write_problem(root: Path) -> str:
    """Why the cache cannot be written; empty where it can, or can be made."""
    try:
        with tempfile.TemporaryFile(dir=_nearest(root)):
            return ""
    except OSError as error:
        return error.strerror or str(error)


def _nearest(root: Path) -> Path:
    """The folder itself, or what is there of the way to it."""
    for path in (root, *root.parents):
        if os.path.lexists(path):
            return path
    return root


def _is_noexec(root: Path) -> bool:
    return bool(os.statvfs(_nearest(root)).f_flag & os.ST_NOEXEC)


def _noexec(config: Config, root: Path) -> Finding:
    return Finding(
        "cache",
        unless_off(config, FAILURE),
        f"{root} is on a file system that is mounted noexec",
        "No library can be loaded from there.",
        (Fix("Use another folder.", _ELSEWHERE.command),),
    )


def _owner(root: Path) -> str:
    try:
        status = root.stat()
    except OSError:
        return f"{root} is not there yet"
    mode = stat.S_IMODE(status.st_mode)
    return f"{root} of user {status.st_uid}, mode {mode:04o}"


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
