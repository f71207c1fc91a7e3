"""Where the cache may lie, and what happens where it cannot be used."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from support.cache_worker import KEY, TESTS, obtain
from toolchain.conftest import CountingCompiler, make_compiler

from radam_codegen.errors import ArtifactError
from radam_codegen.toolchain.cache import Entry, clear_cache, get_or_build, stats, verify_cache
from radam_codegen.toolchain.cache.counters import count, read_counters

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")


def build(folder: Path) -> Mapping[str, Any]:
    (folder / "kernel.so").write_bytes(b"library")
    return {}


def built(cache: Path, key: str = KEY) -> Entry:
    return get_or_build(cache, "kernels", key, build)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A folder that any user can reach, for tests that are nobody for a while."""
    folder = Path(tempfile.mkdtemp(prefix="radam_codegen_home_"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """Be a user to whom permissions apply."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


# ---- Permissions --------------------------------------------------------------------------------


def test_folders_are_made_for_this_user_alone(cache: Path) -> None:
    before = os.umask(0)
    try:
        built(cache)
    finally:
        os.umask(before)
    for folder in (cache, cache / "kernels", cache / "locks"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for path in cache.rglob("*"):
        assert path.stat().st_mode & 0o022 == 0 or path.parent.name == KEY


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702, 0o1777])
@pytest.mark.parametrize("name", [".", "kernels"])
def test_a_cache_that_others_can_write_to_is_refused(cache: Path, mode: int, name: str) -> None:
    built(cache)
    (cache / name).chmod(mode)
    with pytest.raises(ArtifactError) as caught:
        built(cache)
    text = str(caught.value)
    assert f"Other users can write to the cache {cache / name} (its mode is {mode:04o})" in text
    assert f"chmod go-w {cache / name}" in text
    assert "RADAM_CODEGEN_CACHE_DIR" in text
    with pytest.raises(ArtifactError, match="Other users can write"):
        built(cache, "0" * 32)
    with pytest.raises(ArtifactError, match="Other users can write"):
        clear_cache(cache)
    assert len(verify_cache(cache)) == 1
    (cache / name).chmod(0o700)
    assert not built(cache).built


def test_a_cache_that_others_can_read_is_fine(cache: Path) -> None:
    cache.mkdir(mode=0o755)
    assert built(cache).built


@as_root
@pytest.mark.parametrize("name", [".", "kernels"])
def test_a_cache_of_another_user_is_refused(cache: Path, name: str) -> None:
    built(cache)
    os.chown(cache / name, NOBODY, -1)
    with pytest.raises(ArtifactError, match=f"belongs to user {NOBODY}") as caught:
        built(cache)
    assert f"chown -R 0 {cache}" in str(caught.value)


@as_root
def test_a_cache_that_root_made_can_be_used(home: Path) -> None:
    cache = home / "cache"
    folder = built(cache).folder
    for path in (cache, cache / "kernels", folder):
        path.chmod(0o755)
    for path in folder.iterdir():
        path.chmod(0o644)
    with unprivileged():
        assert built(cache) == Entry(folder, built=False)


def test_a_link_to_a_folder_of_ones_own_is_fine(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    cache.symlink_to(tmp_path / "elsewhere")
    assert built(cache).built
    assert (tmp_path / "elsewhere" / "kernels" / KEY).is_dir()


# ---- Caches that cannot be written --------------------------------------------------------------


@contextlib.contextmanager
def one_warning(match: str) -> Iterator[None]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    assert len(caught) == 1
    assert re.search(match, str(caught[0].message))


def test_a_read_only_cache_gives_what_it_has_and_a_temporary_folder_the_rest(home: Path) -> None:
    cache = home / "cache"
    entry = built(cache)
    for path in (cache, cache / "kernels", cache / "locks", entry.folder):
        path.chmod(0o555)
    for path in (cache / "counters.json", *entry.folder.iterdir()):
        path.chmod(0o444)
    with unprivileged():
        assert built(cache) == Entry(entry.folder, built=False)
        with one_warning("cannot be used .*Permission denied.*RADAM_CODEGEN_CACHE_DIR"):
            other = built(cache, "0" * 32)
            assert built(cache, "0" * 32) == Entry(other.folder, built=False)
            assert built(cache, "1" * 32).built
    assert other.built
    assert cache not in other.folder.parents
    for path in (cache, cache / "kernels", cache / "locks", entry.folder):
        path.chmod(0o755)


def test_a_damaged_entry_in_a_read_only_cache_is_built_elsewhere(home: Path) -> None:
    cache = home / "cache"
    entry = built(cache)
    (entry.folder / "kernel.so").write_bytes(b"libraru")
    for path in (cache, cache / "kernels", entry.folder):
        path.chmod(0o555)
    for path in entry.folder.iterdir():
        path.chmod(0o444)
    with unprivileged(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        again = built(cache)
        assert built(cache) == Entry(again.folder, built=False)
    assert again.built
    assert (again.folder / "kernel.so").read_bytes() == b"library"
    assert any("cannot be used" in str(each.message) for each in caught)
    for path in (cache, cache / "kernels", entry.folder):
        path.chmod(0o755)


def test_an_entry_that_cannot_be_read_is_replaced_by_a_copy_of_ones_own(home: Path) -> None:
    # As where the loser of a race to publish cannot read what the winner published.
    if os.geteuid() == 0:
        os.chown(home, NOBODY, -1)
    cache = home / "cache"
    with unprivileged():
        winner = built(cache).folder
        (winner / "kernel.so").chmod(0)
        with one_warning(f"its entry {KEY} cannot be read"):
            copy = built(cache)
            assert built(cache) == Entry(copy.folder, built=False)
        assert copy.built
        assert copy.folder != winner
        assert (copy.folder / "kernel.so").read_bytes() == b"library"
        (winner / "kernel.so").chmod(0o600)
        assert (winner / "kernel.so").read_bytes() == b"library"  # it was left alone
        assert built(cache) == Entry(winner, built=False)


def test_a_full_disk_that_the_compiler_meets_is_no_compile_error(
    cache: Path, tmp_path: Path
) -> None:
    cc = make_compiler(
        tmp_path / "full",
        before=f"case $PWD in {cache}/*) echo 'kernel.c:1:1: fatal error: error writing to "
        "kernel.s: No space left on device' >&2; exit 1;; esac",
    )
    with one_warning("cannot be used .*No space left on device"):
        entry = obtain(cache, cc.path)
    assert entry.built
    assert cache not in entry.folder.parents
    counts = read_counters(cache)
    assert (counts["misses"], counts["builds"], counts["failures"]) == (1, 1, 0)
    assert counts["fallbacks"] == 1
    assert [path for path in (cache / "kernels").iterdir() if path.name.startswith(".")] == []


_ON_A_SMALL_DISK = """
import sys, warnings
from pathlib import Path
from support.cache_worker import obtain
cache, free = Path(sys.argv[1]), int(sys.argv[3])
(cache / "filling").write_bytes(bytes(200 * 1024 - free))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    entry = obtain(cache / "cache", sys.argv[2])
print(len(caught), cache in entry.folder.parents, (entry.folder / "kernel.so").stat().st_size > 0)
"""


@pytest.mark.parametrize("free", [0, 4096, 8192, 20480, 28672])
def test_a_disk_that_fills_up(tmp_path: Path, cc: CountingCompiler, free: int) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    script = f'mount -t tmpfs -o size=200k none {disk} && chmod 700 {disk} && exec "$0" "$@"'
    command = ["unshare", "-rm", "sh", "-c", script, sys.executable, "-c", _ON_A_SMALL_DISK]
    if subprocess.run([*command[:5], "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no file system can be mounted here")
    done = subprocess.run(
        [*command, str(disk), str(cc.path), str(free)],
        capture_output=True,
        text=True,
        check=False,
        cwd=TESTS,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["1", "False", "True"]


def test_where_no_place_is_left_the_error_names_both(tmp_path: Path, cache: Path) -> None:
    def never(folder: Path) -> Mapping[str, Any]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))

    pattern = r"Neither the cache .*No space.* nor .*No space.*room"
    with (
        pytest.warns(RuntimeWarning, match="its place"),
        pytest.raises(ArtifactError, match=pattern),
    ):
        get_or_build(cache, "kernels", KEY, never)


# ---- Caches that change under a process ---------------------------------------------------------


def test_a_cache_that_is_removed_is_made_again(cache: Path) -> None:
    built(cache)
    shutil.rmtree(cache)
    assert built(cache).built
    assert not built(cache).built


def test_a_cache_that_is_removed_during_a_build_is_made_again(
    cache: Path, cc: CountingCompiler, tmp_path: Path
) -> None:
    flag = tmp_path / "flag"
    flag.touch()
    remover = make_compiler(tmp_path / "rm", before=f"[ -e {flag} ] && rm -rf {flag} {cache}")
    entry = obtain(cache, remover.path)
    assert entry == Entry(cache / "kernels" / KEY, built=True)
    assert remover.compiles == 2
    assert not obtain(cache, cc.path).built
    assert read_counters(cache)["misses"] == 1


def test_a_cache_that_is_cleared_during_a_build_does_not_end_it(
    cache: Path, tmp_path: Path
) -> None:
    built(cache, "0" * 32)

    def build_beside_a_clear(folder: Path) -> Mapping[str, Any]:
        cleared = clear_cache(cache)
        assert (cleared.entries, cleared.busy) == (1, 0)
        return build(folder)

    entry = get_or_build(cache, "kernels", KEY, build_beside_a_clear)
    assert entry == Entry(cache / "kernels" / KEY, built=True)
    assert stats(cache).entries == 1


def test_any_path_will_do(tmp_path: Path, cc: CountingCompiler) -> None:
    cache = tmp_path / "spaces and 'quotes' $HOME \u00e9\u4e2d\n" / "cache"
    assert obtain(cache, cc.path).built
    assert not obtain(cache, cc.path).built


def test_two_versions_share_a_cache(cache: Path) -> None:
    built(cache)
    strangers = [cache / "kernels" / "v2-0123", cache / "graphs" / "x", cache / "kernels" / ".new"]
    for path in strangers:
        path.mkdir(parents=True)
        (path / "file").touch()
    count(cache, hits=1, merges=3)
    assert not built(cache).built
    assert verify_cache(cache) == []
    clear_cache(cache)
    assert all((path / "file").exists() for path in strangers)
    assert '"merges": 3' in (cache / "counters.json").read_text()


# ---- Counters -----------------------------------------------------------------------------------


def damaged_counters(path: Path, how: str) -> None:
    path.unlink()
    if how == "a folder":
        path.mkdir()
    elif how == "a pipe":
        os.mkfifo(path)
    elif how == "a link":
        path.symlink_to(path.parent / "victim")
    else:
        path.write_bytes({"empty": b"", "binary": bytes(range(256)), "a list": b"[]"}[how])


@pytest.mark.parametrize("how", ["empty", "binary", "a list", "a folder", "a pipe", "a link"])
def test_unreadable_counts_hinder_nobody(cache: Path, how: str) -> None:
    built(cache)
    damaged_counters(cache / "counters.json", how)
    assert not built(cache).built
    assert stats(cache).counts["hits"] in (0, 1)
    assert not (cache / "victim").exists()


def test_counts_that_are_no_counts_begin_anew(cache: Path) -> None:
    built(cache)
    (cache / "counters.json").write_text('{"hits": -1, "misses": 1e9, "builds": true, "x": "y"}')
    built(cache)
    counts = read_counters(cache)
    assert (counts["hits"], counts["misses"], counts["builds"]) == (1, 0, 0)
