"""RAdam for PaddlePaddle, as kernels that are generated for the program at hand.

Importing this package imports neither Paddle nor anything else of weight; each name below is
loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from radam_codegen._version import __version__

# At once, as importing the module of this name would put the module in its place.
from radam_codegen.config import config

if TYPE_CHECKING:
    from radam_codegen._resources import include_dir as include_dir
    from radam_codegen.errors import RadamCodegenError as RadamCodegenError
    from radam_codegen.ir.plan import UpdatePlan as UpdatePlan
    from radam_codegen.optimizer import RAdam as RAdam
    from radam_codegen.program import prune as prune
    from radam_codegen.program.loading import load_operator as load_operator
    from radam_codegen.program.lowering.install import install_pass as install_pass
    from radam_codegen.program.lowering.install import uninstall_pass as uninstall_pass
    from radam_codegen.program.lowering.lower import lower as lower
    from radam_codegen.program.lowering.raise_native import raise_native as raise_native
    from radam_codegen.program.lowering.report import LoweringReport as LoweringReport
    from radam_codegen.tools.aot.run import aot as aot
    from radam_codegen.tools.inspect.run import inspect as inspect
    from radam_codegen.tools.verify.run import verify as verify

#: Public name: the module that defines it.
_HOME = {
    "LoweringReport": "radam_codegen.program.lowering.report",
    "RAdam": "radam_codegen.optimizer",
    "RadamCodegenError": "radam_codegen.errors",
    "UpdatePlan": "radam_codegen.ir.plan",
    "aot": "radam_codegen.tools.aot.run",
    "include_dir": "radam_codegen._resources",
    "inspect": "radam_codegen.tools.inspect.run",
    "install_pass": "radam_codegen.program.lowering.install",
    "load_operator": "radam_codegen.program.loading",
    "lower": "radam_codegen.program.lowering.lower",
    "prune": "radam_codegen.program",
    "raise_native": "radam_codegen.program.lowering.raise_native",
    "uninstall_pass": "radam_codegen.program.lowering.install",
    "verify": "radam_codegen.tools.verify.run",
}

__all__ = [
    "LoweringReport",
    "RAdam",
    "RadamCodegenError",
    "UpdatePlan",
    "__version__",
    "aot",
    "config",
    "include_dir",
    "inspect",
    "install_pass",
    "load_operator",
    "lower",
    "prune",
    "raise_native",
    "uninstall_pass",
    "verify",
]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value  # from now on without a detour through here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
