"""Making a bundle."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from radam_codegen.config import current
from radam_codegen.errors import ArgumentError
from radam_codegen.ir.plan import UpdatePlan
from radam_codegen.toolchain import PaddleInstallation
from radam_codegen.toolchain.bundle_writer import write_bundle
from radam_codegen.tools.aot.request import Pathlike, Request, gather
from radam_codegen.tools.aot.result import AotResult
from radam_codegen.tools.aot.standalone import write_standalone
from radam_codegen.tools.aot.work import OnProgress, Work

__all__ = ["aot"]


def aot(
    out: Pathlike,
    *,
    plans: Iterable[UpdatePlan | Pathlike] = (),
    kernels: Iterable[str] = (),
    programs: Iterable[Pathlike] = (),
    everything: bool = False,
    cpus: Sequence[str] = (),
    target: str | Sequence[str] = "c",
    architectures: Sequence[int] = (),
    operator: bool | None = None,
    standalone: bool = False,
    jobs: int | None = None,
    on_progress: OnProgress | None = None,
) -> AotResult:
    """Compile kernels and the operator ahead of time, into a bundle.

    Where ``RADAM_CODEGEN_AOT`` names the bundle, training needs no compiler. What the bundle has
    already is kept, and not compiled again; a bundle of another version is made anew, with all
    that it had.

    Args:
        out: Folder of the bundle; a new or empty one, or a bundle that is added to.
        plans: Plans, or files with what :meth:`UpdatePlan.to_json` returns.
        kernels: Names of kernels, as in ``opt.sources()[0].name``.
        programs: Saved static programs, as the prefix that was given to ``paddle.static.save``.
        everything: Also every kernel of
            :func:`radam_codegen.ir.every_structure.every_structure`.
        cpus: CPUs to compile for: ``x86-64-v1`` to ``-v4``, or ``native``; what is best for the
            machine is chosen when a kernel is loaded. None given: v1, v3 and v4.
        target: ``"c"``, ``"cuda"``, or both in a sequence.
        architectures: GPUs to compile CUDA kernels for: 90 is ``sm_90``; newer ones than the
            newest are served, too. None given: 75, 80, 90, 100 and 120, as nvcc knows them. A
            kernel that the bundle has for others is made anew for them all.
        operator: Whether to compile the operator for the Paddle that is installed here; None: if
            one is installed.
        standalone: Write plain C sources with a CMakeLists.txt instead, and compile nothing; with
            the target ``"cuda"``, CUDA sources beside them.
        jobs: How many compilers run at once; the CPUs of the process when None.
        on_progress: Called with how many libraries are done, of how many, and a line on the last.

    Returns:
        What the bundle has now, and what could not be compiled; see ``result.good``. Where nvcc
        is missing, that are the CUDA kernels, unless nothing else is asked for.

    Raises:
        ArgumentError: Nothing is asked for, or something that is not there.
        CompilerNotFoundError: There is no compiler here.
        ArtifactError: The bundle cannot be written.
        PlanError: A plan or the name of a kernel makes no sense.
        ProgramError: A program is none, or has no step of ours.

    Examples:
        >>> import radam_codegen as rc
        >>> rc.aot("bundle", kernels=["radam_no_clip__f32_l2"]).good  # doctest: +SKIP
        True
    """
    request = gather(
        plans=plans,
        kernels=kernels,
        programs=programs,
        everything=everything,
        cpus=cpus,
        targets=(target,) if isinstance(target, str) else tuple(target),
        architectures=architectures,
    )
    if standalone and (operator or cpus or architectures):
        raise ArgumentError(
            "plain C sources are for any CPU, CUDA's for any GPU, and there is no operator: leave "
            "all three out with standalone"
        )
    if not request.structures and not operator:
        raise ArgumentError(
            "nothing is asked for: name plans, programs or kernels, or ask for all of them, or for "
            "the operator"
        )
    paddle, note = _paddle(False if standalone else operator)
    config = current()
    jobs = config.num_threads if jobs is None else jobs
    if jobs < 1:
        raise ArgumentError(f"jobs is {jobs}; at least one compiler must run")
    begin = time.monotonic()
    if standalone:
        return _standalone(Path(out), request, begin)
    with write_bundle(
        Path(out), lock_timeout=config.lock_timeout, compile_timeout=config.compile_timeout
    ) as writer:
        work = Work(writer, request, paddle, config)
        failures = work.run(jobs, on_progress)
        index = work.index()
        writer.publish(index)
        folder = writer.folder
    return AotResult(
        folder=folder,
        kernels=tuple(name for name in request.structures if name in work.kernels),
        cpus=request.cpus,
        variants=sum(len(work.kernels.get(name, ())) for name in request.structures),
        cuda_kernels=tuple(name for name in request.structures if name in work.cuda_kernels),
        architectures=_architectures(work, request),
        compiled=work.compiled,
        operator=paddle.version if paddle is not None and work.operator is not None else None,
        note=note,
        size=_size(folder),
        seconds=time.monotonic() - begin,
        failures=failures,
        standalone=False,
    )


def _standalone(out: Path, request: Request, begin: float) -> AotResult:
    cuda = "cuda" in request.targets
    write_standalone(out, request.structures, cuda=cuda)
    return AotResult(
        folder=out.absolute(),
        kernels=tuple(request.structures),
        cpus=(),
        variants=0,
        cuda_kernels=tuple(request.structures) if cuda else (),
        architectures=(),
        compiled=0,
        operator=None,
        note="Plain C sources; README.md in the folder says how to build and call them.",
        size=_size(out),
        seconds=time.monotonic() - begin,
        failures=(),
        standalone=True,
    )


def _architectures(work: Work, request: Request) -> tuple[int, ...]:
    made = (work.cuda_kernels[name] for name in request.structures if name in work.cuda_kernels)
    return tuple(sorted({each for variant in made for each in variant.architectures}))


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _paddle(wanted: bool | None) -> tuple[PaddleInstallation | None, str]:
    """The Paddle to compile the operator for, or why there is none."""
    if wanted is False:
        return None, ""
    if importlib.util.find_spec("paddle") is None:
        if wanted:
            raise ArgumentError(
                "the operator is asked for, but Paddle is not installed here: install the one that "
                "the bundle is for"
            )
        return None, (
            "Paddle is not installed here, so the bundle has no operator: a machine without a "
            "compiler cannot train with it yet. Run this again where Paddle is."
        )
    from radam_codegen.program.installation import installed_paddle

    return installed_paddle(), ""
