"""Every setting, with its value and where it came from, also where some cannot be used."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import Any

from radam_codegen.config import SETTINGS, Config
from radam_codegen.errors import ConfigError
from radam_codegen.tools.doctor.findings import FAILURE, Finding, Fix

__all__ = ["ShownSetting", "read_settings"]


@dataclass(frozen=True)
class ShownSetting:
    """A setting as it is now.

    Attributes:
        name: Its name for ``radam_codegen.config``.
        variable: Its environment variable.
        value: Its value; None where there is none, or none that can be used.
        origin: ``default``, ``environment`` or ``rc.config``.
        error: Why it cannot be used; empty where it can.
    """

    name: str
    variable: str
    value: str | int | float | None
    origin: str
    error: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)


def read_settings() -> tuple[list[ShownSetting], Config, list[Finding]]:
    """Read all settings, each by itself.

    Returns:
        The settings, in the order of the documentation; the configuration, with the default in the
        place of what cannot be used; and a finding for each of these.
    """
    shown, findings, values = [], [], {}
    for setting in SETTINGS:
        error = ""
        try:
            value, origin = setting.read(os.environ)
            values[setting.name] = value
        except ConfigError as refused:
            value, origin, error = None, "environment", str(refused)
            values[setting.name] = setting.default()
            findings.append(_finding(setting.variable, error))
        if value is not None and not isinstance(value, (int, float)):
            value = str(value)
        shown.append(ShownSetting(setting.name, setting.variable, value, origin, error))
    return shown, Config(**values), findings


def _finding(variable: str, error: str) -> Finding:
    return Finding(
        check="settings",
        status=FAILURE,
        found=error,
        cause="Nothing is built or run while a setting cannot be used.",
        fixes=(
            Fix("Set it to something that can be used, as said above."),
            Fix("Or take its default.", f"unset {variable}"),
        ),
    )
