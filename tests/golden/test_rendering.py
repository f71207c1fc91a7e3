"""What shapes a rendered text, and what leaves no trace in it."""

from __future__ import annotations

import datetime
import getpass
import hashlib
import os
import re
import socket
import subprocess
import sys
from dataclasses import replace
from itertools import combinations
from pathlib import Path

from support.plans import HOSTILE_NAMES
from support.structures import SAMPLE, every_structure

from radam_codegen import __version__
from radam_codegen._resources import templates_dir
from radam_codegen.codegen import C_TARGET, KernelSource, render
from radam_codegen.ir.dtypes import DType
from radam_codegen.ir.plan import (
    Clip,
    ClipKind,
    Decay,
    DecayKind,
    GroupPlan,
    KernelStructure,
    TensorClass,
    TensorPlan,
    UpdatePlan,
)
from radam_codegen.ir.printer import print_group
from radam_codegen.passes import lower_plan, lower_structure

F32, BF16, F16 = DType.FLOAT32, DType.BFLOAT16, DType.FLOAT16
BASE = KernelStructure(
    ClipKind.GLOBAL_NORM, False, (TensorClass(BF16, BF16, F32, False, DecayKind.L2),)
)


def source(structure: KernelStructure) -> KernelSource:
    return render(lower_structure(structure))


def with_class(**changes: object) -> KernelStructure:
    return replace(BASE, classes=(replace(BASE.classes[0], **changes),))


#: One part of a structure changed at a time.
CHANGED = {
    "base": BASE,
    **{f"clip {kind}": replace(BASE, clip=kind) for kind in ClipKind if kind is not BASE.clip},
    "skip": replace(BASE, skip=True),
    "param": with_class(param_dtype=F16),
    "grad": with_class(grad_dtype=F32),
    "both": with_class(param_dtype=F16, grad_dtype=F16),
    "master": with_class(master=True),
    **{f"decay {kind}": with_class(decay=kind) for kind in DecayKind if kind is not DecayKind.L2},
    "another class": replace(
        BASE, classes=(*BASE.classes, TensorClass(F32, F32, F32, False, DecayKind.L2))
    ),
}


def test_each_part_of_a_structure_changes_name_and_text() -> None:
    sources = {what: source(structure) for what, structure in CHANGED.items()}
    for (one, a), (other, b) in combinations(sources.items(), 2):
        assert a.name != b.name, f"{one} and {other}"
        assert a.sha256 != b.sha256, f"{one} and {other}"
        bodies = (a.text.split("*/", 1)[1], b.text.split("*/", 1)[1])
        assert without_names(bodies[0]) != without_names(bodies[1]), f"{one} and {other}"


def without_names(text: str) -> str:
    """The code without the names of kernel and bodies, and without the hash of the IR."""
    text = re.sub(r"^ +\.(name|ir_sha256) = .*$", "", text, flags=re.M)
    return re.sub(r"\bb?f(16|32|64)(_grad_\w+?)?(_master)?_(no_decay|l1|l2|decoupled)", "", text)


def test_every_structure_has_a_name_of_its_own_that_c_takes() -> None:
    structures = list(every_structure())
    names = {each.name for each in structures}
    assert len(names) == len(structures)
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", name) for name in names)


def plan_of(names: tuple[str, ...], **numbers: float) -> UpdatePlan:
    tensors = tuple(
        TensorPlan(name, (3,), F32, F32, F32, decay=Decay(DecayKind.L2, numbers.get("decay", 0.1)))
        for name in names
    )
    group = GroupPlan(
        tensors,
        numbers.get("beta1", 0.9),
        numbers.get("beta2", 0.999),
        numbers.get("epsilon", 1e-8),
        Clip(ClipKind.NORM, numbers.get("bound", 1.0)),
    )
    return UpdatePlan((group,))


def test_numbers_names_and_shapes_change_nothing() -> None:
    plans = [
        plan_of(("a",)),
        plan_of(("a", "b", "c")),
        plan_of(HOSTILE_NAMES),
        *(
            plan_of(("a",), **{number: 0.123})
            for number in ("beta1", "beta2", "epsilon", "decay", "bound")
        ),
    ]
    assert len({render(lower_plan(plan).kernels[0]).text for plan in plans}) == 1


def test_the_text_says_nothing_of_time_place_and_person() -> None:
    secrets = {
        *(str(folder) for folder in (Path.cwd(), Path.home(), Path(sys.prefix), templates_dir())),
        socket.gethostname(),
        str(datetime.date.today().year),
    }
    secrets |= {getpass.getuser()} - {"root"}
    for structure in SAMPLE:
        text = source(structure).text
        without_sha256 = re.sub(r"\b[0-9a-f]{64}\b", "", text)
        assert not [secret for secret in secrets if secret in without_sha256]
        assert not re.search(r'[\s"=](/[a-z]+){2,}', text), "an absolute path"
        assert text.isascii()
        assert text.endswith("}\n")
        assert not re.search(r"[ \t]$", text, re.M)


def test_the_header_names_what_it_was_made_from() -> None:
    ir = lower_structure(BASE)
    made = render(ir)
    header = made.text.split("*/", 1)[0]
    digest = hashlib.sha256(print_group(ir).encode()).hexdigest()
    assert f"radam_codegen {__version__}." in header
    assert f"IR        sha256 {digest}" in header
    assert f'.ir_sha256 = "{digest}"' in made.text
    assert C_TARGET.compile_line in header
    listed = dict(
        reversed(found)
        for found in re.findall(r"template  sha256 ([0-9a-f]{64}) (\S+)$", header, re.M)
    )
    files = {
        path.relative_to(templates_dir()).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in ("c", "shared")
        for path in (templates_dir() / folder).glob("*.j2")
    }
    assert listed == files
    assert made.sha256 == hashlib.sha256(made.text.encode()).hexdigest()
    assert made.path is None


def test_every_operation_of_the_ir_is_a_commented_line() -> None:
    for structure in SAMPLE:
        ir = lower_structure(structure)
        lines = source(structure).text.splitlines()
        for body in ir.bodies:
            for op in body.each:
                if op.result is not None and str(op.kind) not in ("const",):
                    wanted = f" {op.result.name} = "
                    assert any(wanted in line and f"/* {op.kind}" in line for line in lines), op


PROGRAM = """
import hashlib, sys
sys.path.insert(0, {tests!r})
from support.structures import SAMPLE
from test_texts import PLAN
from radam_codegen.codegen import render
from radam_codegen.passes import lower_plan, lower_structure
digest = hashlib.sha256()
for structure in SAMPLE[-2:]:
    ir = lower_structure(structure)
    digest.update((render(ir).text + str(ir) + structure.name).encode())
digest.update((PLAN.to_json() + str(PLAN)).encode())
for ir in lower_plan(PLAN).kernels:
    digest.update(render(ir).text.encode())
print(digest.hexdigest())
"""


def test_equal_bytes_in_every_process() -> None:
    tests = str(Path(__file__).resolve().parent.parent)
    program = PROGRAM.format(tests=tests).replace("from test_texts", "from golden.test_texts")
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("0", "1", "4711")
    ]
    digests = {process.communicate()[0] for process in running}
    assert [process.returncode for process in running] == [0, 0, 0]
    assert len(digests) == 1


def test_rendering_again_gives_the_same() -> None:
    for structure in SAMPLE[-3:]:
        assert source(structure) == source(structure)
