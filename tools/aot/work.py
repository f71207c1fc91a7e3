"""Compiling what a bundle lacks."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from typing import Callable

from radam_codegen._version import __version__
from radam_codegen.codegen import C_TARGET, CUDA_TARGET, KernelSource, render
from radam_codegen.codegen.targets import Target
from radam_codegen.config import Config
from radam_codegen.errors import CompileError, CompilerNotFoundError, PlanError
from radam_codegen.ir.plan import KernelStructure
from radam_codegen.ir.structure_name import structure_from_name
from radam_codegen.passes import lower_structure
from radam_codegen.toolchain import PaddleInstallation, find_c_compiler, find_cxx_compiler
from radam_codegen.toolchain.abi import abi_version, cuda_abi_version
from radam_codegen.toolchain.bundle_index import (
    BundledCudaKernel,
    BundledKernel,
    BundledOperator,
    BundleIndex,
    CudaVariant,
    Variant,
)
from radam_codegen.toolchain.bundle_writer import BundleWriter, Made
from radam_codegen.toolchain.cpu import NATIVE, cpu_names, needed_features
from radam_codegen.toolchain.cuda import CudaCompiler, cuda_kernel_recipe, find_cuda_compiler
from radam_codegen.toolchain.cuda.architectures import architectures_for, default_architectures
from radam_codegen.toolchain.forks import KeyedLocks
from radam_codegen.toolchain.kernel import kernel_recipe
from radam_codegen.toolchain.operator import operator_recipe
from radam_codegen.tools.aot.request import Request
from radam_codegen.tools.aot.result import AotFailure

__all__ = ["OnProgress", "Work"]

#: Called with how many compiles are done, of how many, and what the last one was and came to.
OnProgress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class _Job:
    """One library to compile; ``take`` notes that the bundle has it."""

    name: str
    processor: str
    make: Callable[[], Made]
    take: Callable[[Made], None]


class Work:
    """Compiles what a bundle lacks, and says what it has then.

    Attributes:
        kernels: What was made or found of each kernel in C.
        cuda_kernels: The same of each kernel in CUDA.
        operator: The operator that was made or found.
        compiled: How many libraries were compiled rather than found.
    """

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
        self._request = request
        old = writer.old or BundleIndex()
        spoken = (__version__, abi_version(), cuda_abi_version())
        #: What of the old index is still true.
        self._kept = old if (old.version, old.abi, old.cuda_abi) == spoken else BundleIndex()
        asked = request.structures.items()
        self._wanted: dict[str, tuple[KernelStructure, tuple[str, ...]]] = {
            name: (structure, request.cpus) for name, structure in asked if "c" in request.targets
        }
        self._wanted_cuda: dict[str, KernelStructure] = {
            name: structure for name, structure in asked if "cuda" in request.targets
        }
        if self._kept is not old:
            self._want_again(old)
        self._sources = _Sources()
        self._failures: list[AotFailure] = []
        self.kernels: dict[str, list[Variant]] = {}
        self.cuda_kernels: dict[str, CudaVariant] = {}
        self.operator: BundledOperator | None = None
        self.compiled = 0

    def _want_again(self, old: BundleIndex) -> None:
        """Ask anew for what a bundle of another version has for machines like this one."""
        for name, kernel in old.kernels.items():
            structure = _structure(name)
            if structure is None:
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
        for name, cuda_kernel in old.cuda_kernels.items():
            structure = _structure(name)
            if structure is not None and _architectures_here(cuda_kernel):
                self._wanted_cuda[name] = structure

    def run(self, jobs: int, on_progress: OnProgress | None) -> tuple[AotFailure, ...]:
        """Compile; what fails does not keep the rest from being compiled.

        Raises:
            CompilerNotFoundError: There is no C or C++ compiler; or no nvcc, and CUDA kernels are
                all that is to be compiled.
            ArgumentError: nvcc does not know an architecture.
        """
        todo = list(self._jobs())
        pool = ThreadPoolExecutor(jobs, thread_name_prefix="radam_codegen-aot")
        try:
            running = {pool.submit(job.make): job for job in todo}
            for done, future in enumerate(as_completed(running), 1):
                job = running[future]
                state = "already there"
                try:
                    made = future.result()
                    job.take(made)
                    if made.compiled:
                        self.compiled += 1
                        state = "compiled"
                except CompileError as error:
                    state = "failed"
                    self._failures.append(AotFailure(job.name, job.processor, str(error)))
                if on_progress is not None:
                    text = f"{job.name} {job.processor}".rstrip()
                    on_progress(done, len(todo), f"{text}: {state}")
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        return tuple(sorted(self._failures, key=lambda each: (each.name, each.cpu)))

    def index(self) -> BundleIndex:
        """What the bundle has, once all is compiled."""
        kernels = dict(self._kept.kernels)
        for name, variants in self.kernels.items():
            source = self._sources.get(self._wanted[name][0], C_TARGET).sha256
            before = kernels.get(name)
            others = before.variants if before is not None and before.source == source else ()
            replaced = {_place(each) for each in variants}
            all_of_it = [*variants, *(each for each in others if _place(each) not in replaced)]
            kernels[name] = BundledKernel(source, tuple(sorted(all_of_it, key=_place)))
        cuda_kernels = dict(self._kept.cuda_kernels)
        for name, variant in self.cuda_kernels.items():
            source = self._sources.get(self._wanted_cuda[name], CUDA_TARGET).sha256
            there = cuda_kernels.get(name)
            same = there.variants if there is not None and there.source == source else ()
            by_machine = {each.machine: each for each in (*same, variant)}
            ordered = tuple(by_machine[machine] for machine in sorted(by_machine))
            cuda_kernels[name] = BundledCudaKernel(source, ordered)
        operators = {(each.paddle, each.machine): each for each in self._kept.operators}
        if self.operator is not None:
            operators[self.operator.paddle, self.operator.machine] = self.operator
        # Plans stay true whatever version made the bundle: a plan says which version reads it.
        old = self._writer.old
        plans = dict(old.plans if old is not None else {})
        plans.update(self._writer.add_plan(text) for text in self._request.plans)
        return BundleIndex(
            kernels=kernels,
            cuda_kernels=cuda_kernels,
            operators=tuple(operators[each] for each in sorted(operators)),
            plans=plans,
        )

    def _jobs(self) -> Iterator[_Job]:
        memo = self._config.cache_dir
        if self._paddle is not None:
            cxx = find_cxx_compiler(self._config.cxx)
            recipe = operator_recipe(self._paddle, cxx, memo)
            yield _Job("operator", "", partial(self._writer.add, recipe), self._take_operator)
        if self._wanted:
            cc = find_c_compiler(self._config.cc)
        for name, (structure, cpus) in self._wanted.items():
            for cpu in cpus:

                def make(structure: KernelStructure = structure, cpu: str = cpu) -> Made:
                    source = self._sources.get(structure, C_TARGET)
                    return self._writer.add(kernel_recipe(source, cc, memo, cpu))

                yield _Job(name, cpu, make, partial(self._take, name, cpu))
        if self._wanted_cuda:
            try:
                nvcc = find_cuda_compiler(self._config.nvcc, self._config.cxx)
                asked = self._request.architectures
                usual = architectures_for(nvcc, asked) if asked else default_architectures(nvcc)
            except CompilerNotFoundError as error:
                if self._paddle is None and not self._wanted:
                    raise
                self._failures.append(AotFailure("CUDA kernels", "", str(error)))
                return
            yield from self._cuda_jobs(nvcc, usual)

    def _cuda_jobs(self, nvcc: CudaCompiler, usual: tuple[int, ...]) -> Iterator[_Job]:
        old = self._writer.old or BundleIndex()
        for name, structure in self._wanted_cuda.items():
            # A kernel has one library for all GPUs, so that what it is for can only grow.
            there = set(_architectures_here(old.cuda_kernels.get(name)))
            asked = name in self._request.structures and "cuda" in self._request.targets
            still = there & set(nvcc.architectures)
            architectures = tuple(sorted(still | set(usual) if asked else still or set(usual)))

            def make(
                structure: KernelStructure = structure,
                architectures: tuple[int, ...] = architectures,
            ) -> Made:
                source = self._sources.get(structure, CUDA_TARGET)
                memo = self._config.cache_dir
                return self._writer.add(cuda_kernel_recipe(source, nvcc, memo, architectures))

            yield _Job(name, "cuda", make, partial(self._take_cuda, name, architectures))

    def _take(self, name: str, cpu: str, made: Made) -> None:
        needs = needed_features(cpu)
        variant = Variant(cpu, platform.machine(), needs, made.key, made.manifest)
        self.kernels.setdefault(name, []).append(variant)

    def _take_cuda(self, name: str, architectures: tuple[int, ...], made: Made) -> None:
        self.cuda_kernels[name] = CudaVariant(
            platform.machine(), architectures, made.key, made.manifest
        )

    def _take_operator(self, made: Made) -> None:
        assert self._paddle is not None
        self.operator = BundledOperator(
            self._paddle.version, platform.machine(), made.key, made.manifest
        )


def _place(variant: Variant) -> tuple[str, str, tuple[str, ...]]:
    """What a kernel has one variant for; the native ones of two machines are two."""
    return (variant.machine, variant.cpu, variant.needs)


def _architectures_here(kernel: BundledCudaKernel | None) -> tuple[int, ...]:
    """What a kernel was compiled for beside a CPU of this machine's kind."""
    for each in kernel.variants if kernel is not None else ():
        if each.machine == platform.machine():
            return each.architectures
    return ()


def _structure(name: str) -> KernelStructure | None:
    try:
        return structure_from_name(name)
    except PlanError:  # a kernel that this version does not have
        return None


class _Sources:
    """Renders each kernel once, whatever it is compiled for."""

    def __init__(self) -> None:
        self._sources: dict[tuple[str, str], KernelSource] = {}
        self._locks = KeyedLocks()

    def get(self, structure: KernelStructure, target: Target) -> KernelSource:
        key = (structure.name, target.language)
        with self._locks.of(key):
            if key not in self._sources:
                self._sources[key] = render(lower_structure(structure), target)
            return self._sources[key]
