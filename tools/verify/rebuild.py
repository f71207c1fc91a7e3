"""Compiling a library anew, and comparing the machine code."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from radam_codegen.config import Config
from radam_codegen.errors import ArgumentError, ToolchainError
from radam_codegen.toolchain import find_c_compiler, find_cxx_compiler
from radam_codegen.toolchain.cache import BuildFailedError
from radam_codegen.toolchain.cpu import NATIVE, cpu_names
from radam_codegen.toolchain.cuda import cuda_kernel_recipe, find_cuda_compiler
from radam_codegen.toolchain.cuda.architectures import architectures_for
from radam_codegen.toolchain.kernel import kernel_recipe
from radam_codegen.toolchain.operator import operator_recipe
from radam_codegen.toolchain.recipe import CUDA_KERNELS, KERNELS, OPERATORS, Recipe
from radam_codegen.tools.inspect.text import printable
from radam_codegen.tools.verify.sources import rendered

__all__ = ["machine_code_fault"]

#: What a manifest says about a build, in the order in which a difference explains the most.
_EXPLAINS = (
    *("machine", "compiler", "host_compiler", "abi"),
    *("paddle", "cpu", "features", "architectures", "command"),
)


def machine_code_fault(entry: Path, build: dict[str, Any], config: Config) -> str | None:
    """Compile an entry's source anew and compare the libraries byte by byte.

    Args:
        entry: The folder.
        build: What its manifest says about the build.
        config: Says which compilers to use.

    Returns:
        What differs, or why nothing could be compared; None when the bytes are the same.
    """
    cpu = build.get("cpu", NATIVE)
    if cpu not in cpu_names():
        return f"cannot be compiled anew: its manifest names an unknown CPU, {_shown(cpu)}"
    try:
        recipe = _recipe(entry, build, config)
    except (ToolchainError, ArgumentError) as error:
        return f"cannot be compiled anew: {str(error).splitlines()[0]}"
    if recipe is None:
        return "cannot be compiled anew: Paddle is not installed here"
    if recipe.key != entry.name:
        return f"cannot be compiled anew: {_why_another(build, recipe)}"
    with tempfile.TemporaryDirectory(prefix="radam_codegen_verify_") as folder:
        try:
            recipe.build(Path(folder))
        except (BuildFailedError, OSError) as error:
            return f"cannot be compiled anew: {str(error).splitlines()[0]}"
        anew = (Path(folder) / recipe.library).read_bytes()
    if anew == (entry / recipe.library).read_bytes():
        return None
    return f"{recipe.library} is not what the compiler makes of its source"


def _recipe(entry: Path, build: dict[str, Any], config: Config) -> Recipe | None:
    if entry.parent.name == OPERATORS:
        try:
            import paddle  # noqa: F401
        except ImportError:
            return None
        from radam_codegen.program.installation import installed_paddle

        compiler = find_cxx_compiler(config.cxx)
        return operator_recipe(installed_paddle(), compiler, config.cache_dir)
    if entry.parent.name == CUDA_KERNELS:
        nvcc = find_cuda_compiler(config.nvcc, config.cxx)
        listed = build.get("architectures")
        numbers = [
            each for each in (listed if isinstance(listed, list) else ()) if isinstance(each, int)
        ]
        source = rendered(build["name"], CUDA_KERNELS)
        chosen = architectures_for(nvcc, numbers)
        return cuda_kernel_recipe(source, nvcc, config.cache_dir, chosen)
    compiler = find_c_compiler(config.cc)
    source = rendered(build["name"], KERNELS)
    return kernel_recipe(source, compiler, config.cache_dir, build.get("cpu", NATIVE))


def _why_another(build: dict[str, Any], recipe: Recipe) -> str:
    for name in _EXPLAINS:
        here, there = _plain(recipe.facts.get(name)), _plain(build.get(name))
        if here != there:
            return f"{name}: {_shown(there)} then, {_shown(here)} here"
    return "another compiler of the same version made it, or it is not what its key says"


def _plain(value: Any) -> Any:
    """A value as it comes back from JSON."""
    return list(value) if isinstance(value, tuple) else value


def _shown(value: Any) -> str:
    # The manifest may come from anywhere.
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    line = printable(text.splitlines()[0]) if text else "nothing"
    return line if len(line) <= 100 else f"{line[:100]}..."
