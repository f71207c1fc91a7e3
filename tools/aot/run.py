"""Making a bundle."""

from __future__ import annotations

import importlib.util
import platform
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Callable

from radam_codegen._version import __version__
from radam_codegen.codegen import KernelSource, render
from radam_codegen.config import Config, current
from radam_codegen.errors import ArgumentError, CompileError, PlanError
from radam_codegen.ir.plan import KernelStructure, UpdatePlan
from radam_codegen.ir.structure_name import structure_from_name
from radam_codegen.passes import lower_structure
from radam_codegen.toolchain import PaddleInstallation, find_c_compiler, find_cxx_compiler
from radam_codegen.toolchain.abi import abi_version
from radam_codegen.toolchain.bundle_index import (
    BundledKernel,
    BundledOperator,
    BundleIndex,
    Variant,
)
from radam_codegen.toolchain.bundle_writer import BundleWriter, Made, write_bundle
from radam_codegen.toolchain.cpu import NATIVE, cpu_names, needed_features
from radam_codegen.toolchain.kernel import kernel_recipe
from radam_codegen.toolchain.operator import operator_recipe
from radam_codegen.tools.aot.request import Pathlike, Request, gather
from radam_codegen.tools.aot.result import AotFailure, AotResult
from radam_codegen.tools.aot.standalone import write_standalone

__all__ = ["aot"]

#: Called with how many compiles are done, of how many, and what the last one was and came to.
OnProgress = Callable[[int, int, str], None]


def aot(
    out: Pathlike,
    *,
    plans: Iterable[UpdatePlan | Pathlike] = (),
    kernels: Iterable[str] = (),
    programs: Iterable[Pathlike] = (),
    everything: bool = False,
    cpus: Sequence[str] = (),
    target: str = "c",
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
        target: ``"c"``.
        operator: Whether to compile the operator for the Paddle that is installed here; None: if
            one is installed.
        standalone: Write plain C sources with a CMakeLists.txt instead, and compile nothing.
        jobs: How many compilers run at once; the CPUs of the process when None.
        on_progress: Called with how many libraries are done, of how many, and a line on the last.

    Returns:
        What the bundle has now, and what could not be compiled; see ``result.good``.

    Raises:
        ArgumentError: Nothing is asked for, or something that is not there.
        CompilerNotFoundError: There is no compiler here.
        ArtifactError: The bundle cannot be written.
        PlanError: A plan or the name of a kernel makes no sense.
        ProgramError: A program is none, or has no step of ours.
        UnsupportedError: There is no code for the target.

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
        target=target,
    )
    if standalone and (operator or cpus):
        raise ArgumentError(
            "plain C sources are for any CPU, and hold no operator: leave both out with standalone"
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
        work = _Work(writer, request, paddle, config)
        failures = work.run(jobs, on_progress)
        index = work.index()
        writer.publish(index)
        folder = writer.folder
    return AotResult(
        folder=folder,
        kernels=tuple(name for name in request.structures if name in work.kernels),
        cpus=request.cpus,
        variants=sum(len(work.kernels.get(name, ())) for name in request.structures),
        compiled=work.compiled,
        operator=paddle.version if paddle is not None and work.operator is not None else None,
        note=note,
        size=_size(folder),
        seconds=time.monotonic() - begin,
        failures=failures,
    )


def _standalone(out: Path, request: Request, begin: float) -> AotResult:
    write_standalone(out, request.structures)
    return AotResult(
        folder=out.absolute(),
        kernels=tuple(request.structures),
        cpus=(),
        variants=0,
        compiled=0,
        operator=None,
        note="Plain C sources; README.md in the folder says how to build and call them.",
        size=_size(out),
        seconds=time.monotonic() - begin,
        failures=(),
    )


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


@dataclass(frozen=True)
class _Job:
    """One library to compile."""

    name: str
    cpu: str
    make: Callable[[], Made]


class _Work:
    """Compiles what a bundle lacks, and says what it has then."""

    def __init__(
        self,
        writer: BundleWriter,
        request: Request,
        paddle: PaddleInstallation | None,
        config: Config,
    ) -> None:
        self._writer = writer
        self._paddle = paddle
        self._config = config
        self._plans = request.plans
        old = writer.old or BundleIndex()
        #: What of the old index is still true.
        self._kept = old if (old.version, old.abi) == (__version__, abi_version()) else None
        self._wanted: dict[str, tuple[KernelStructure, tuple[str, ...]]] = {
            name: (structure, request.cpus) for name, structure in request.structures.items()
        }
        if self._kept is None:
            self._want_again(old)
        self._sources = _Sources()
        self.kernels: dict[str, list[Variant]] = {}
        self.operator: BundledOperator | None = None
        self.compiled = 0

    def _want_again(self, old: BundleIndex) -> None:
        """Ask anew for what a bundle of another version has for machines like this one."""
        for name, kernel in old.kernels.items():
            try:
                structure = structure_from_name(name)
            except PlanError:  # a kernel that this version does not have
                continue
            _, cpus = self._wanted.get(name, (structure, ()))
            there = [
                each.cpu
                for each in kernel.variants
                if each.machine == platform.machine()
                and each.cpu in cpu_names()
                and each.cpu != NATIVE  # that is of the machine that the bundle was made on
            ]
            self._wanted[name] = (structure, tuple(dict.fromkeys([*cpus, *there])))

    def run(self, jobs: int, on_progress: OnProgress | None) -> tuple[AotFailure, ...]:
        """Compile; what fails does not keep the rest from being compiled."""
        todo = list(self._jobs())
        failures = []
        pool = ThreadPoolExecutor(jobs, thread_name_prefix="radam_codegen-aot")
        try:
            running = {pool.submit(job.make): job for job in todo}
            for done, made in enumerate(as_completed(running), 1):
                job = running[made]
                state = "already there"
                try:
                    if self._take(job, made.result()):
                        state = "compiled"
                except CompileError as error:
                    state = "failed"
                    failures.append(AotFailure(job.name, job.cpu, str(error)))
                if on_progress is not None:
                    on_progress(done, len(todo), f"{job.name} {job.cpu}".rstrip() + f": {state}")
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        return tuple(sorted(failures, key=lambda each: (each.name, each.cpu)))

    def index(self) -> BundleIndex:
        """What the bundle has, once all is compiled."""
        kept = self._kept or BundleIndex()
        kernels = dict(kept.kernels)
        for name, variants in self.kernels.items():
            source = self._sources.get(self._wanted[name][0]).sha256
            before = kernels.get(name)
            others = before.variants if before is not None and before.source == source else ()
            replaced = {_place(each) for each in variants}
            all_of_it = [*variants, *(each for each in others if _place(each) not in replaced)]
            kernels[name] = BundledKernel(source, tuple(sorted(all_of_it, key=_place)))
        operators = {(each.paddle, each.machine): each for each in kept.operators}
        if self.operator is not None:
            operators[self.operator.paddle, self.operator.machine] = self.operator
        # Plans stay true whatever version made the bundle: a plan says which version reads it.
        old = self._writer.old
        plans = dict(old.plans if old is not None else {})
        plans.update(self._writer.add_plan(text) for text in self._plans)
        return BundleIndex(
            kernels=kernels,
            operators=tuple(operators[each] for each in sorted(operators)),
            plans=plans,
        )

    def _jobs(self) -> Iterator[_Job]:
        memo = self._config.cache_dir
        if self._paddle is not None:
            cxx = find_cxx_compiler(self._config.cxx)
            recipe = operator_recipe(self._paddle, cxx, memo)
            yield _Job("operator", "", partial(self._writer.add, recipe))
        if self._wanted:
            cc = find_c_compiler(self._config.cc)
        for name, (structure, cpus) in self._wanted.items():
            for cpu in cpus:

                def make(structure: KernelStructure = structure, cpu: str = cpu) -> Made:
                    source = self._sources.get(structure)
                    return self._writer.add(kernel_recipe(source, cc, memo, cpu))

                yield _Job(name, cpu, make)

    def _take(self, job: _Job, made: Made) -> bool:
        machine = platform.machine()
        if not job.cpu:
            assert self._paddle is not None
            self.operator = BundledOperator(self._paddle.version, machine, made.key, made.manifest)
        else:
            needs = needed_features(job.cpu)
            variant = Variant(job.cpu, machine, needs, made.key, made.manifest)
            self.kernels.setdefault(job.name, []).append(variant)
        self.compiled += made.compiled
        return made.compiled


def _place(variant: Variant) -> tuple[str, str, tuple[str, ...]]:
    """What a kernel has one variant for; the native ones of two machines are two."""
    return (variant.machine, variant.cpu, variant.needs)


class _Sources:
    """Renders each kernel once, whatever it is compiled for."""

    def __init__(self) -> None:
        self._sources: dict[str, KernelSource] = {}
        self._locks: dict[str, threading.Lock] = {}

    def get(self, structure: KernelStructure) -> KernelSource:
        with self._locks.setdefault(structure.name, threading.Lock()):
            if structure.name not in self._sources:
                self._sources[structure.name] = render(lower_structure(structure))
            return self._sources[structure.name]
