"""Lowering a program that was saved, with its state, into another one."""

from __future__ import annotations

import os
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from radam_codegen.errors import ArgumentError, ProgramError
from radam_codegen.frontend.saved_program import program_file

if TYPE_CHECKING:
    from radam_codegen.program.lowering.report import LoweringReport

__all__ = ["lower_saved"]

_PIR_SUFFIX = ".json"
_STATE = (".pdparams", ".pdopt")


def lower_saved(
    prefix: Path,
    out: Path,
    startup: Path | None = None,
    steps: int = 0,
    feed: Path | None = None,
) -> LoweringReport:
    """Lower a saved main program, and save what becomes of it.

    Args:
        prefix: What was given to ``paddle.static.save``, or the program's file itself. Its
            parameters and its state (``.pdparams``, ``.pdopt``) are taken along if they are there.
        out: As what to save the lowered program: a prefix, too.
        startup: File of the startup program, which ``paddle.save`` wrote; what becomes of it is
            saved as ``OUT.startup`` and the suffix. Without it the state must be there.
        steps: How many steps of the program to time before and after.
        feed: File of arrays for these, which ``numpy.savez`` wrote; what is missing is made up.

    Returns:
        The report. Nothing is saved where there was nothing to lower.

    Raises:
        ArgumentError: ``out`` is where the program is, or in a folder that does not exist; or
            ``feed`` holds no arrays, or one that is no data of the program.
        ProgramError: A file cannot be read or written, is no program, or one of the other IR than
            this process uses; or the state is neither there nor initialized; or the program cannot
            be run.
    """
    path = program_file(prefix)
    base = path.with_suffix("")
    if out.absolute() == base.absolute():
        raise ArgumentError(f"{str(out)!r} is the program itself; choose another name for --out")
    if not os.path.isdir(out.absolute().parent):
        raise ArgumentError(f"the folder {str(out.absolute().parent)!r} does not exist; make it")
    arrays = None if feed is None else _read_arrays(feed)
    _choose_ir(path.suffix)
    return _lower(path, base, out, startup, steps, arrays)


def _read_arrays(file: Path) -> dict[str, Any]:
    import numpy as np

    # NumPy takes anything else for a pickle, and says that it is one.
    if not zipfile.is_zipfile(file):
        raise ArgumentError(f"{str(file)!r} is no .npz file; write it with numpy.savez")
    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except Exception as error:  # whatever NumPy meets in a file
        raise ArgumentError(
            f"the arrays in {str(file)!r} cannot be read ({_first_line(error)!r}); write them with "
            "numpy.savez"
        ) from error
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "biufc":
            raise ArgumentError(f"{name!r} in {str(file)!r} is not an array of numbers")
    return arrays


def _choose_ir(suffix: str) -> None:
    # Paddle reads this once, when it is imported.
    if "paddle" not in sys.modules:
        os.environ["FLAGS_enable_pir_api"] = str(int(suffix == _PIR_SUFFIX))


def _lower(
    path: Path,
    base: Path,
    out: Path,
    startup: Path | None,
    steps: int,
    feed: dict[str, Any] | None,
) -> LoweringReport:
    import paddle

    import radam_codegen

    dynamic = paddle.in_dynamic_mode()
    paddle.enable_static()
    try:
        scope = paddle.static.Scope()
        with paddle.static.scope_guard(scope):
            radam_codegen.load_operator()  # the program may hold fused steps already
            main = _load(path)
            has_state = _load_state(base, scope)
            start = None if startup is None else _load(startup)
            report = radam_codegen.lower(main, start, scope=scope, time_steps=steps, feed=feed)
            if report.steps:
                _save(report, out, path.suffix, has_state)
        return report
    finally:
        if dynamic:
            paddle.disable_static()


def _load(path: Path) -> Any:
    import paddle

    try:
        return paddle.load(str(path))
    except Exception as error:  # whatever Paddle meets in a file
        raise ProgramError(
            f"Paddle cannot load the program {str(path)!r} ({_first_line(error)}); save it again "
            "with paddle.static.save or paddle.save"
        ) from error


def _load_state(base: Path, scope: Any) -> bool:
    """Put parameters and state into a scope; tell whether there are any.

    ``paddle.static.load`` would do, if it made the variables of a PIR program that was loaded.
    """
    import numpy as np
    import paddle

    files = [file for file in (Path(f"{base}{each}") for each in _STATE) if os.path.exists(file)]
    for file in files:
        try:
            for name, value in paddle.load(str(file), return_numpy=True).items():
                # uint16 stands for bfloat16, here as there.
                scope.var(name).get_tensor().set(np.asarray(value), paddle.CPUPlace())
        except Exception as error:  # whatever Paddle meets in a file
            raise ProgramError(
                f"Paddle cannot load the state {str(file)!r} ({_first_line(error)}); save it "
                "again with paddle.static.save"
            ) from error
    return bool(files)


def _save(report: LoweringReport, out: Path, suffix: str, has_state: bool) -> None:
    import paddle

    try:
        if has_state:
            paddle.static.save(report.program, str(out))
        else:
            paddle.save(report.program, f"{out}{suffix}")
        if report.startup_program is not None:
            paddle.save(report.startup_program, f"{out}.startup{suffix}")
    except OSError as error:
        raise ProgramError(f"{str(out)!r} cannot be written: {error.strerror}") from error


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
