"""Each call of a build that writes anything fails in turn, in every way; nothing comes of it.

What fails is a call of a real process, or of a real compiler that it runs. Afterwards the next
process must train with right values, and the cache must hold the entry and nothing else.
"""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
from reliability.conftest import VALUES, Sandbox
from support.faults import FAULTS, Call
from support.fork_server import ForkServer, Outcome

LASTING = [name for name, fault in FAULTS.items() if fault.lasting and fault.error]
KILLS = ["everything killed", "one program killed", "process killed, its compiler not"]
#: What a process can meet at any one of its calls.
SINGLE = [*(name for name in FAULTS if name not in (*LASTING, *KILLS)), KILLS[0]]
#: Calls that meet each of them; the others meet one each.
IN_FULL = {"open", "write", "pwrite", "fsync", "mkdir", "rename"}
#: What its compiler can meet.
COMPILERS = [*KILLS, "no space", "input/output error", "half a write"]


class Sweep:
    """Cases over the calls of one build, each from the same beginning.

    Where it is the process's own calls that fail, the compiler is one that has compiled already.
    """

    def __init__(
        self,
        server: ForkServer,
        sandbox: Sandbox,
        compiler: str = "recording",
        beginning: Path | None = None,
    ) -> None:
        self.server, self.sandbox, self.beginning = server, sandbox, beginning
        self.build = {"cache": str(sandbox.cache), "compiler": compiler}
        self.findings: list[object] = []
        self.outcomes: Counter[str] = Counter()

    def begin(self) -> None:
        self.sandbox.empty()
        if self.beginning is not None:
            shutil.copytree(self.beginning, self.sandbox.cache)

    def calls(self, **options: bool) -> list[Call]:
        """What a build calls where nothing fails."""
        self.begin()
        outcome = self.server.run("train", **self.build, log=True, **options)
        assert outcome.result["values"] == VALUES
        assert outcome.result["compiled"]
        assert self.server.faults is not None
        return self.server.faults.calls()

    def fail(self, call: Call, name: str, **options: bool) -> None:
        """Have a call fail, and look what comes of it."""
        self.begin()
        # Where a fault lasts, it is the disk of the cache that has it, and no other.
        only_cache = name in LASTING
        outcome = self.server.run(
            "train",
            **self.build,
            fault=(call.number, name),
            watched=self.sandbox.cache if only_cache else self.sandbox.root,
            leave_orphans=name == "process killed, its compiler not",
            **options,
        )
        self.outcomes[_kind_of(outcome)] += 1
        then = self.server.run("train", **self.build)
        contents = self.sandbox.contents()
        right = (
            outcome.struck > 0
            and _is_fair(outcome, only_cache)
            and then.result is not None
            and then.result["values"] == VALUES
            and contents == self.sandbox.expected(Path(then.result["library"]).parent.name)
        )
        if not right:
            self.findings.append((name, call, outcome, then, sorted(contents)))


def _kind_of(outcome: Outcome) -> str:
    return outcome.signal or ("error" if outcome.error else "values")


def _is_fair(outcome: Outcome, must_train: bool) -> bool:
    """Whether a process that met a fault ended in a way that it may end."""
    if outcome.result is not None:
        return bool(outcome.result["values"] == VALUES)
    if must_train:
        return False
    return outcome.signal == "SIGKILL" or "RadamCodegenError" in outcome.error


@pytest.fixture(scope="module")
def cold(server: ForkServer, sandbox: Sandbox) -> list[Call]:
    return Sweep(server, sandbox, "gcc").calls()


@pytest.fixture(scope="module")
def own(server: ForkServer, sandbox: Sandbox) -> list[Call]:
    """The process's own calls, where its compiler has compiled already."""
    return of("process", Sweep(server, sandbox).calls())


def of(by: str, calls: list[Call]) -> list[Call]:
    return [call for call in calls if call.by == by]


def single_faults(call: Call) -> list[str]:
    """What a call of the process meets: all there is, or a kill and one error."""
    kill, errors = SINGLE[-1], [name for name in SINGLE[:-1] if FAULTS[name].meets(call)]
    chosen = errors if call.name in IN_FULL else [errors[call.number % len(errors)]]
    return [*chosen, kill]


def test_every_kind_of_call_is_met(cold: list[Call], own: list[Call]) -> None:
    process = Counter(call.name for call in of("process", cold))
    assert {"open", "write", "fsync", "mkdir", "rename", "unlink", "flock"} <= set(process)
    assert process["rename"] == 1, "an entry is published by one rename"
    names = [call.name for call in of("process", cold)]
    assert [call.name for call in own] == names, "the compiler makes no difference"
    publishing = names.index("rename")
    # Each of four files, and the folder; then the folder that it was moved into.
    assert names[:publishing].count("fsync") >= 5
    assert names[publishing + 1] == "fsync"
    # Compiler proper, assembler and linker write; none of it outside of the folder of the build.
    compilers = of("compiler", cold)
    assert Counter(call.name for call in compilers)["write"] > 20
    assert all("/.new-" in call.path for call in compilers)


@pytest.mark.parametrize("name", SINGLE)
def test_one_call_of_the_process_fails(
    name: str, server: ForkServer, sandbox: Sandbox, own: list[Call]
) -> None:
    sweep = Sweep(server, sandbox)
    for call in own:
        if name in single_faults(call):
            sweep.fail(call, name)
    assert sweep.findings == []
    if name == SINGLE[-1]:
        assert set(sweep.outcomes) == {"SIGKILL"}
    else:  # the cache cannot be written, so a temporary folder takes its place
        assert set(sweep.outcomes) == {"values"}


def test_the_disk_of_the_cache_fails_for_good(
    server: ForkServer, sandbox: Sandbox, own: list[Call]
) -> None:
    sweep = Sweep(server, sandbox)
    # Not the last one: here the folder of the cache itself, made by the first call, is not counted.
    for index, call in enumerate(own[:-1:3]):
        sweep.fail(call, LASTING[index % len(LASTING)])
    assert sweep.findings == []
    assert set(sweep.outcomes) == {"values"}


def test_a_call_of_the_compiler_fails(
    server: ForkServer, sandbox: Sandbox, cold: list[Call]
) -> None:
    sweep = Sweep(server, sandbox, "gcc")
    for index, call in enumerate(of("compiler", cold)):
        names = [name for name in COMPILERS if FAULTS[name].meets(call)]
        sweep.fail(call, names[index % len(names)])
    assert sweep.findings == []
    assert set(sweep.outcomes) == {"values", "error", "SIGKILL"}


def test_a_call_fails_while_a_damaged_entry_is_replaced(
    server: ForkServer, sandbox: Sandbox, tmp_path: Path
) -> None:
    sandbox.empty()
    server.run("train", **Sweep(server, sandbox).build)
    library = sandbox.entry() / "kernel.so"
    content = bytearray(library.read_bytes())
    content[len(content) // 2] ^= 1
    library.write_bytes(content)
    damaged = tmp_path / "damaged"
    shutil.copytree(sandbox.cache, damaged)

    sweep = Sweep(server, sandbox, beginning=damaged)
    calls = of("process", sweep.calls())
    first = next(index for index, call in enumerate(calls) if "/.old-" in call.path)
    last = next(index for index, call in enumerate(calls) if "/.new-" in call.path)
    assert [call.name for call in calls[first:last]].count("rename") == 1
    for call in calls[first : last + 1]:
        for name in ("everything killed", "access denied"):
            sweep.fail(call, name)
    assert sweep.findings == []


def test_a_call_fails_while_digests_of_the_compiler_are_kept(
    server: ForkServer, sandbox: Sandbox
) -> None:
    sweep = Sweep(server, sandbox, "gcc")
    calls = [call for call in sweep.calls(forget_digests=True) if "digests" in call.path]
    assert {"open", "write", "rename"} <= {call.name for call in calls}
    begun = next(index for index, call in enumerate(calls) if call.name == "open")
    for call in calls[begun : begun + 3]:
        for name in ("everything killed", "half a write", "access denied"):
            if FAULTS[name].meets(call):
                sweep.fail(call, name, forget_digests=True)
    assert sweep.findings == []
