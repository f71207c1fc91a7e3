"""The operator in this process: built for the installed Paddle, registered with it once."""

from __future__ import annotations

from typing import Any, Callable

import paddle
from paddle.base import framework
from paddle.utils.cpp_extension import load_op_meta_info_and_register_op

from radam_codegen.config import current, watch
from radam_codegen.errors import OperatorError
from radam_codegen.program.installation import installed_paddle, openmp_path, python_module_path
from radam_codegen.runtime import OperatorLibrary, load_operator
from radam_codegen.toolchain import Artifact, build_operator
from radam_codegen.toolchain.forks import ForkSafeLock, KeyedLocks
from radam_codegen.toolchain.vanishing import again_if_gone

__all__ = [
    "BUILD_OP",
    "STEP_OP",
    "check_operators",
    "ensure_operator",
    "is_registered",
    "registered_library",
    "take_failure",
]

#: Names of the two operators, as Paddle knows them.
BUILD_OP = "radam_codegen_build"
STEP_OP = "radam_codegen_step"

#: Makes the group of a key known to the operator library, from the operator's launch text.
Builder = Callable[[int, str], None]

_lock = ForkSafeLock()
_library: OperatorLibrary | None = None
_builder: Builder | None = None
_callback: Any = None  # what C++ calls; as long as the process lives
_key_locks = KeyedLocks()
_failure: BaseException | None = None


def ensure_operator(build: Builder) -> OperatorLibrary:
    """Have the operator registered with Paddle; the first call in a process does it.

    The first call on a machine compiles the operator, which takes about three seconds; later
    processes find it in the cache.

    Args:
        build: Called with an operator's key and launch text when its group is wanted: whenever a
            startup program runs, and when a main program finds its group missing. It must register
            the group, must not call Paddle (it runs inside an operator), and runs once at a time
            per key. What it raises comes out of ``Executor.run`` as Paddle's error with the same
            message, and from :func:`take_failure` as it was. The last one given counts.

    Raises:
        CompilerNotFoundError: There is no C++ compiler, and the cache has no operator.
        CompileError: The operator does not compile for this Paddle.
        OperatorError: Paddle refuses the operator.
    """
    global _builder, _library
    with _lock:
        _builder = build
        if _library is None:
            _library = _load()
        return _library


def is_registered() -> bool:
    """Whether Paddle knows the operators in this process."""
    return _library is not None


def registered_library() -> OperatorLibrary | None:
    """Return the operator library of this process, if Paddle knows its operators."""
    return _library


def check_operators(program: Any) -> None:
    """Refuse a program that was loaded before the operators that it holds were registered.

    Without them a legacy program has operators of an unknown type. In a PIR program they lost
    their name for good: running it fails with "op []", cloning it ends the process, and Paddle's
    dead code elimination drops them without a word.

    Args:
        program: A program of either IR.

    Raises:
        OperatorError: The program cannot be used as it is.
    """
    legacy = isinstance(program, framework.Program)
    for operation in program.global_block().ops:
        if legacy:
            unknown = operation.type in (BUILD_OP, STEP_OP) and not is_registered()
        else:
            unknown = operation.name() == "" and "launch" in operation.attrs()
        if unknown:
            raise OperatorError(
                "The program holds operators of radam_codegen, but was loaded in a process that "
                "did not know them yet. Call radam_codegen.load_operator() first, and then load "
                "the program (again)."
            )


def take_failure() -> BaseException | None:
    """Return what the builder raised last, and forget it; None when nothing was raised."""
    global _failure
    with _lock:
        failure, _failure = _failure, None
    return failure


def _load() -> OperatorLibrary:
    settings, paddle_here = current(), installed_paddle()
    _, library = again_if_gone(lambda: build_operator(paddle_here, settings), _register)
    if settings.freed_memory == "keep" and not paddle_here.cuda:
        # Before the Executor starts its threads.
        library.keep_freed_memory()
    watch(lambda settings: library.set_threads(settings.num_threads))
    return library


def _register(built: Artifact) -> OperatorLibrary:
    global _callback
    library = load_operator(built.library)
    # Paddle's own OpenMP runtime, where it has one: a second one would fight it for the cores.
    library.set_openmp(openmp_path())
    library.set_python_module(python_module_path())
    if _callback is None:
        _callback = library.ffi.callback("radam_operator_builder", _build)
    library.library.radam_operator_set_builder(_callback)
    try:
        load_op_meta_info_and_register_op(str(built.library))
    except Exception as error:
        raise OperatorError(
            f"Paddle {paddle.version.full_version} refuses the operator {built.library}: {error}"
        ) from error
    return library


def _build(key: int, launch: Any, message: Any, size: int) -> int:
    """What C++ calls: returns 0, or writes a message and returns 1."""
    global _failure
    ffi = _library.ffi if _library is not None else None
    try:
        assert ffi is not None, "operators run only once they are registered"
        with _lock:
            build = _builder
        assert build is not None, "it is set before the operator is loaded"
        with _key_locks.of(key):
            build(key, ffi.string(launch).decode("utf-8", "replace"))
    except BaseException as error:  # whatever it is, C++ must not see it
        with _lock:
            _failure = error
        if ffi is not None:
            text = str(error) or type(error).__name__
            encoded = _cut(text, size - 1)
            ffi.memmove(message, encoded + b"\0", len(encoded) + 1)
        return 1
    return 0


def _cut(text: str, size: int) -> bytes:
    """The text in UTF-8, at most so many bytes, with no character cut in two."""
    cut = text.encode("utf-8", "replace")[:size]
    return cut.decode("utf-8", "ignore").encode("utf-8")
