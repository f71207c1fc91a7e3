"""The launcher covers every element once, in order, in parts of nearly equal size."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from cffi import FFI
from hypothesis import given, settings
from hypothesis import strategies as st

from radam_codegen._resources import include_dir
from radam_codegen.runtime.interface import parsed

CHUNK = 16384

SOURCE = """
#include <fenv.h>
#include <radam_codegen/launcher.h>
static volatile double three = 3.0;
static double quotients[2];
static int32_t divide_once(const radam_group *g) {
    (void)g;
    quotients[0] = 1.0 / three;
    return 1;
}
static void divide(const radam_group *g, int64_t b, int64_t e) {
    (void)g, (void)b, (void)e;
    quotients[1] = 1.0 / three;
}
/* Launches with the thread's rounding mode set upward; 0 if that shows in no quotient, and the mode
 * is still set afterwards. */
int32_t launch_rounding_upward(void) {
    static const radam_kernel kernel = {.scalar = divide_once, .each = divide};
    const radam_group group = {0};
    const int64_t bounds[2] = {0, 1};
    const double nearest = 1.0 / three;
    int32_t faults = 0;
    fesetround(FE_UPWARD);
    const double upward = 1.0 / three;
    radam_launch(&kernel, &group, bounds, 1, 0);
    faults += fegetround() != FE_UPWARD;
    fesetround(FE_TONEAREST);
    faults += upward == nearest; /* or this test shows nothing */
    faults += quotients[0] != nearest;
    faults += quotients[1] != nearest;
    return faults;
}
int64_t count_chunks(const radam_tensor *t, int64_t n) { return radam_count_chunks(t, n); }
int64_t fill_chunks(const radam_tensor *t, int64_t n, radam_chunk *c) {
    return radam_fill_chunks(t, n, c);
}
int32_t count_parts(int64_t e, int64_t c, int32_t m) { return radam_count_parts(e, c, m); }
void split_chunks(const radam_chunk *c, int64_t n, int64_t e, int32_t p, int64_t *b) {
    radam_split_chunks(c, n, e, p, b);
}
int32_t launch(const radam_kernel *k, const radam_group *g, const int64_t *b, int32_t p,
               radam_parallel_for f) {
    return radam_launch(k, g, b, p, f);
}
"""

DECLARATIONS = """
int32_t launch_rounding_upward(void);
int64_t count_chunks(const radam_tensor *t, int64_t n);
int64_t fill_chunks(const radam_tensor *t, int64_t n, radam_chunk *c);
int32_t count_parts(int64_t e, int64_t c, int32_t m);
void split_chunks(const radam_chunk *c, int64_t n, int64_t e, int32_t p, int64_t *b);
typedef void (*radam_parallel_for)(void (*body)(void *data, int32_t part), void *data,
                                   int32_t parts);
int32_t launch(const radam_kernel *k, const radam_group *g, const int64_t *b, int32_t p,
               radam_parallel_for f);
"""

Launcher = tuple[FFI, Any]


@pytest.fixture(scope="module")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Launcher:
    folder = tmp_path_factory.mktemp("launcher")
    (folder / "launcher.c").write_text(SOURCE)
    strict = ["-std=c11", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror"]
    subprocess.run(
        [
            *(
                "cc",
                *strict,
                "-O2",
                "-frounding-math",
                "-fPIC",
                "-shared",
                "-I",
                str(include_dir()),
            ),
            *("launcher.c", "-o", "launcher.so", "-lm"),
        ],
        cwd=folder,
        check=True,
    )
    ffi = parsed()
    ffi.cdef(DECLARATIONS)
    return ffi, ffi.dlopen(str(folder / "launcher.so"))


def test_the_headers_are_cxx_too(tmp_path: Path) -> None:
    (tmp_path / "all.cc").write_text(
        "#include <radam_codegen/launcher.h>\n#include <radam_codegen/operator.h>\n"
    )
    strict = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"]
    subprocess.run(["c++", *strict, "-I", str(include_dir()), "all.cc"], cwd=tmp_path, check=True)


def lay_out(launcher: Launcher, numels: list[int]) -> tuple[Any, int, int]:
    ffi, library = launcher
    tensors = ffi.new("radam_tensor[]", [{"numel": numel} for numel in numels])
    count = library.count_chunks(tensors, len(numels))
    chunks = ffi.new("radam_chunk[]", count + 1)
    chunks[count].tensor = -7
    elements = library.fill_chunks(tensors, len(numels), chunks)
    assert chunks[count].tensor == -7
    return chunks, count, elements


NUMELS = st.lists(
    st.one_of(st.integers(0, 5), st.integers(CHUNK - 2, CHUNK + 2), st.integers(0, 10 * CHUNK)),
    max_size=30,
)


@settings(deadline=None)
@given(NUMELS)
def test_chunks_cover_every_element_once_and_in_order(
    launcher: Launcher, numels: list[int]
) -> None:
    chunks, count, elements = lay_out(launcher, numels)
    covered = [(chunks[c].tensor, chunks[c].begin, chunks[c].end) for c in range(count)]
    expected = [
        (tensor, begin, min(begin + CHUNK, numel))
        for tensor, numel in enumerate(numels)
        for begin in range(0, numel, CHUNK)
    ]
    assert covered == expected
    assert elements == sum(numels)


@settings(deadline=None)
@given(NUMELS, st.integers(1, 9))
def test_parts_are_contiguous_and_even(launcher: Launcher, numels: list[int], parts: int) -> None:
    ffi, library = launcher
    chunks, count, elements = lay_out(launcher, numels)
    bounds = ffi.new("int64_t[]", parts + 1)
    library.split_chunks(chunks, count, elements, parts, bounds)
    cuts = list(bounds)
    assert cuts[0] == 0
    assert cuts[-1] == count
    assert cuts == sorted(cuts)
    for part in range(parts):
        size = sum(chunks[c].end - chunks[c].begin for c in range(cuts[part], cuts[part + 1]))
        assert abs(size - elements / parts) <= CHUNK


def test_a_kernel_does_not_see_the_threads_rounding_mode(launcher: Launcher) -> None:
    _, library = launcher
    assert library.launch_rounding_upward() == 0


def test_small_groups_run_on_one_thread(launcher: Launcher) -> None:
    _, library = launcher
    assert library.count_parts(32767, 300, 8) == 1
    assert library.count_parts(32768, 300, 8) == 8
    assert library.count_parts(32768, 2, 8) == 2
    assert library.count_parts(0, 0, 8) == 1
    assert library.count_parts(10**9, 70000, 0) == 1


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("with_reduce", [False, True])
@pytest.mark.parametrize("skip", [False, True])
def test_phases_run_in_order(launcher: Launcher, parts: int, with_reduce: bool, skip: bool) -> None:
    ffi, library = launcher
    calls: list[tuple[Any, ...]] = []
    phase = "void(const radam_group *, int64_t, int64_t)"

    @ffi.callback(phase)
    def reduce(group: Any, begin: int, end: int) -> None:
        calls.append(("reduce", begin, end))

    @ffi.callback("int32_t(const radam_group *)")
    def scalar(group: Any) -> int:
        calls.append(("scalar",))
        return int(not skip)

    @ffi.callback(phase)
    def each(group: Any, begin: int, end: int) -> None:
        calls.append(("each", begin, end))

    @ffi.callback("void(void (*)(void *, int32_t), void *, int32_t)")
    def backwards(body: Any, data: Any, count: int) -> None:
        for part in reversed(range(count)):
            body(data, part)

    kernel = ffi.new("radam_kernel *", {"scalar": scalar, "each": each})
    if with_reduce:
        kernel.reduce = reduce
    group = ffi.new("radam_group *")
    bounds = ffi.new("int64_t[]", [0, 5] if parts == 1 else [0, 2, 2, 5])
    done = library.launch(kernel, group, bounds, parts, backwards)
    ranges = [(0, 5)] if parts == 1 else [(2, 5), (0, 2)]
    expected: list[tuple[Any, ...]] = [("reduce", *each) for each in ranges if with_reduce]
    expected.append(("scalar",))
    expected += [("each", *each) for each in ranges if not skip]
    assert calls == expected
    assert done == int(not skip)
