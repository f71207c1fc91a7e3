"""Real optimizer steps, taken in a process that may crash or hang."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from typing import IO, Any

from radam_codegen.config import Config
from radam_codegen.tools.doctor.findings import (
    FAILURE,
    NOTE,
    OK,
    REINSTALL,
    WARNING,
    Finding,
    Fix,
    unless_off,
)
from radam_codegen.tools.doctor.step import KERNEL, STAGES, expected_value

__all__ = ["STEP_CHECKS", "SUPPORTED_PADDLE", "check_training"]

#: The version that the package is tested with.
SUPPORTED_PADDLE = "3.3.1"
_INSTALL = f"pip install paddlepaddle=={SUPPORTED_PADDLE}"
_BY_ITSELF = Fix(
    "See whether Paddle works by itself.", "RADAM_CODEGEN_MODE=off radam-codegen doctor"
)

#: For a stage that compiles nothing and waits for nobody.
_STAGE_SECONDS = 120.0
#: A wait for another process that compiles may be longer; the doctor says so instead of waiting.
_MOST_WAIT_SECONDS = 60.0
_TITLES = {
    "Paddle": "Paddle",
    "operator": "operator",
    "dynamic graph": "step in dynamic graph",
    "static program": "step in a static program",
}
#: The checks that take steps.
STEP_CHECKS = tuple(_TITLES[stage] for stage in STAGES[2:])
#: Float32, after a displacement of about one; native RAdam computes its scalars in float32, too.
_TOLERANCE, _NATIVE_TOLERANCE = 1e-5, 1e-2


def check_training(config: Config) -> list[Finding]:
    """Train, and compare with the formula."""
    findings = []
    for stage, facts in _run(config):
        if "error" in facts:
            findings.append(_refused(config, stage, facts))
        elif "ended" in facts:
            findings.append(_ended(stage, facts))
        elif stage == "Paddle":
            findings += _paddle(config, facts)
        elif stage == "operator":
            findings.append(_operator(facts))
        else:
            findings.append(_value(config, stage, facts))
    return findings


def _paddle(config: Config, facts: dict[str, Any]) -> list[Finding]:
    found = f"{facts['version']} in {facts['folder']}; static programs are {facts['ir']}"
    if facts["cuda"]:
        found += "; built for CUDA"
    findings = [Finding("Paddle", OK, found)]
    if facts["version"] != SUPPORTED_PADDLE:
        cause = (
            f"The package is tested with {SUPPORTED_PADDLE} only. The steps below may show more."
        )
        fix = Fix("Install the version that is tested.", _INSTALL)
        findings = [Finding("Paddle", WARNING, found, cause, (fix,))]
    if not facts["headers"]:
        status = FAILURE if config.aot is None else WARNING
        cause = "The operator cannot be compiled without them."
        fix = Fix("Install Paddle anew.", f"pip install --force-reinstall {_INSTALL.split()[-1]}")
        status = unless_off(config, status)
        found = f"{facts['folder']} has no headers"
        findings.append(Finding("Paddle's headers", status, found, cause, (fix,)))
    return findings


def _operator(facts: dict[str, Any]) -> Finding:
    if facts["path"] is None:
        return Finding("operator", NOTE, "not used in mode off")
    return Finding("operator", OK, f"registered: {facts['path']}")


def _value(config: Config, stage: str, facts: dict[str, Any]) -> Finding:
    expected = expected_value()
    value = facts["value"]
    tolerance = _NATIVE_TOLERANCE if config.mode == "off" else _TOLERANCE
    if abs(value - expected) <= tolerance:  # False for NaN, too
        kernel = "".join(f"; kernel {path}" for path in facts.get("sources", ()))
        return Finding(_TITLES[stage], OK, f"{value:.7g}, as the formula has it{kernel}")
    return Finding(
        _TITLES[stage],
        FAILURE,
        f"{value!r} where the formula has {expected:.9g}",
        "The step ran and its result is wrong: do not train with this.",
        (
            Fix("Try another C compiler.", "CC=clang radam-codegen doctor"),
            Fix("Use Paddle's own operators for now.", "export RADAM_CODEGEN_MODE=off"),
            Fix("Report it, with this output.", "radam-codegen doctor --json"),
        ),
    )


def _refused(config: Config, stage: str, facts: dict[str, Any]) -> Finding:
    title, message = _TITLES[stage], facts["message"]
    if stage == "Paddle":
        missing = facts["error"] == "ModuleNotFoundError" and facts["module"] == "paddle"
        found = "not installed" if missing else f"cannot be imported: {message}"
        cause = "The optimizer is one of Paddle's. All that compiles and inspects works without it."
        fixes = (
            Fix("Install it.", _INSTALL),
            Fix("If it is there, look at the whole error.", f"{_python()} -c 'import paddle'"),
        )
        return Finding(title, FAILURE, found, cause, fixes)
    if stage != "operator" and _is_miss(config, facts):
        # Whatever else is in the bundle may be all that is wanted.
        out = shlex.quote(str(config.aot))
        return Finding(
            title,
            WARNING,
            message,
            "The bundle lacks the plain float32 kernel of this step, so no step was taken. "
            "Programs whose kernels it has may train.",
            (
                Fix(
                    "Add the kernel, on a machine with a compiler, to have a step taken.",
                    f"radam-codegen aot --kernel {KERNEL} --out {out}",
                ),
            ),
        )
    if facts["ours"]:
        fix = Fix("Do what the message says; then see whether all is well.", "radam-codegen doctor")
        return Finding(title, FAILURE, message, "Training ends with this error.", (fix,))
    missing = facts["error"] in ("ImportError", "ModuleNotFoundError")
    return Finding(
        title,
        FAILURE,
        f"{facts['error']}: {message}",
        "Something that the package needs does not load." if missing else "This should not happen.",
        (
            *((REINSTALL,) if missing else ()),
            _BY_ITSELF,
            Fix("Report it, with this:\n" + facts["traceback"].rstrip()),
        ),
    )


def _is_miss(config: Config, facts: dict[str, Any]) -> bool:
    """Whether a kernel is not in the bundle, and nothing else can make it."""
    if config.aot is None:
        return False
    errors = {"aot-only": "ArtifactError", "auto": "CompilerNotFoundError"}
    return bool(facts["error"] == errors.get(config.mode))


def _ended(stage: str, facts: dict[str, Any]) -> Finding:
    cache = Fix(
        "Try it with an empty cache.",
        "RADAM_CODEGEN_CACHE_DIR=$(mktemp -d) radam-codegen doctor",
    )
    said = f"; its last words:\n{facts['said']}" if facts["said"] else ""
    if facts["ended"] == "hangs":
        cause = "Training hangs here, or waits for another process that compiles the same."
        found = f"it did not end within {facts['seconds']:g} s and was killed{said}"
        others = Fix("Look for processes that compile.", "ps -ef | grep -i -e radam -e cc1")
        return Finding(_TITLES[stage], FAILURE, found, cause, (others, cache, _BY_ITSELF))
    return Finding(
        _TITLES[stage],
        FAILURE,
        f"the process was ended by {facts['ended']}{said}",
        "Training crashes here.",
        (cache, _BY_ITSELF, Fix("Report it, with this output.", "radam-codegen doctor --json")),
    )


def _python() -> str:
    return os.path.basename(sys.executable) or "python"


# ---- The other process --------------------------------------------------------------------------


def _run(config: Config) -> Iterator[tuple[str, dict[str, Any]]]:
    """Run the stages, and yield what each came to; the last one may have failed."""
    reading, writing = os.pipe()
    with tempfile.TemporaryFile() as words, os.fdopen(reading, encoding="utf-8") as stream:
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", "radam_codegen.tools.doctor.step", str(writing)],
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=subprocess.STDOUT,
                pass_fds=(writing,),
                start_new_session=True,  # a group of its own, which can be ended as a whole
            )
        finally:
            os.close(writing)
        try:
            yield from _follow(config, process, stream, words)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _follow(
    config: Config, process: subprocess.Popen[bytes], stream: IO[str], words: IO[bytes]
) -> Iterator[tuple[str, dict[str, Any]]]:
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        for line in stream:
            lines.put(line)
        lines.put("")  # the other end is closed

    threading.Thread(target=read, daemon=True).start()
    stage = STAGES[0]
    seconds = _STAGE_SECONDS + config.compile_timeout + min(config.lock_timeout, _MOST_WAIT_SECONDS)
    while True:
        try:
            line = lines.get(timeout=seconds)
        except queue.Empty:
            yield stage, {"ended": "hangs", "seconds": seconds, "said": _last_words(words)}
            return
        if not line:
            break
        facts = json.loads(line)
        if "begin" in facts:
            stage = facts["begin"]
            continue
        yield facts["end"], facts
        if "error" in facts or facts["end"] == STAGES[-1]:
            return
    status = process.wait()
    how = f"exit status {status}"
    if status < 0:
        with contextlib.suppress(ValueError):
            how = f"signal {signal.Signals(-status).name}"
    yield stage, {"ended": how, "said": _last_words(words)}


def _last_words(words: IO[bytes]) -> str:
    words.seek(0, os.SEEK_END)
    words.seek(max(0, words.tell() - 2000))
    return words.read().decode("utf-8", "replace").strip()
