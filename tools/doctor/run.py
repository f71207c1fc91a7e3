"""All checks, one after another."""

from __future__ import annotations

import platform
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from radam_codegen._version import __version__
from radam_codegen.config import Config
from radam_codegen.tools.doctor.compilers import (
    check_c_compiler,
    check_cxx_compiler,
    check_nvcc,
    check_python_headers,
)
from radam_codegen.tools.doctor.findings import FAILURE, OK, REINSTALL, Finding, Fix
from radam_codegen.tools.doctor.machine import check_cpu, check_gpu, check_platform
from radam_codegen.tools.doctor.settings import ShownSetting, read_settings
from radam_codegen.tools.doctor.storage import check_bundle, check_cache
from radam_codegen.tools.doctor.training import STEP_CHECKS, check_training

__all__ = ["Report", "examine"]

_CHECKS: dict[str, Callable[[Config], list[Finding]]] = {
    "platform": check_platform,
    "CPU": check_cpu,
    "GPU": check_gpu,
    "C compiler": check_c_compiler,
    "C++ compiler": check_cxx_compiler,
    "nvcc": check_nvcc,
    "Python headers": check_python_headers,
    "cache": check_cache,
    "bundle": check_bundle,
    "training": check_training,
}


@dataclass(frozen=True)
class Report:
    """What the doctor has to say.

    Attributes:
        settings: Every setting.
        findings: What the checks found, in their order.
    """

    settings: tuple[ShownSetting, ...]
    findings: tuple[Finding, ...]

    @property
    def healthy(self) -> bool:
        """Whether training works here, for all that was found."""
        return all(finding.status != FAILURE for finding in self.findings)

    @property
    def stepped(self) -> bool:
        """Whether real steps were taken, and came to what the formula has."""
        return all(
            any(each.check == title and each.status == OK for each in self.findings)
            for title in STEP_CHECKS
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "version": __version__,
            "python": platform.python_version(),
            "platform": platform.platform(),
            "healthy": self.healthy,
            "stepped": self.stepped,
            "settings": [setting.to_json() for setting in self.settings],
            "findings": [finding.to_json() for finding in self.findings],
        }


def examine(on_check: Callable[[str], None] = lambda title: None) -> Report:
    """Run every check.

    Nothing is written but what training itself puts into the cache, and temporary files.

    Args:
        on_check: Called with the title of each check before it runs.
    """
    settings, config, findings = read_settings()
    for title, check in _CHECKS.items():
        on_check(title)
        try:
            findings += check(config)
        except Exception as error:  # the others still have something to say
            findings.append(_broken(title, error))
    return Report(tuple(settings), tuple(findings))


def _broken(title: str, error: Exception) -> Finding:
    where = "".join(traceback.format_exception(type(error), error, error.__traceback__)).rstrip()
    return Finding(
        title,
        FAILURE,
        f"{type(error).__name__}: {error}",
        "The check itself failed, which training may do, too.",
        (
            REINSTALL,
            Fix(f"Report it, with this:\n{where}"),
        ),
    )
