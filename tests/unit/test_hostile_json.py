"""Documents from anywhere: read as what we write, or refused in one line that names the place."""

from __future__ import annotations

import hashlib
import json
import random
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Callable

import pytest
from hypothesis import given, settings
from support.hostile import STRINGS, broken_texts, mutated
from support.plans import update_plans

from radam_codegen.codegen import render
from radam_codegen.errors import PlanError
from radam_codegen.ir.dtypes import DType
from radam_codegen.ir.launch import LaunchSpec
from radam_codegen.ir.moments import Moments, flat_moments
from radam_codegen.ir.plan import (
    Clip,
    ClipKind,
    Decay,
    DecayKind,
    GroupPlan,
    KernelStructure,
    TensorPlan,
    UpdatePlan,
)
from radam_codegen.ir.structure_name import structure_from_name
from radam_codegen.passes import lower_structure
from radam_codegen.toolchain.bundle_index import (
    BundledKernel,
    BundledOperator,
    BundleIndex,
    Variant,
    index_from_bytes,
    index_to_bytes,
)
from radam_codegen.toolchain.cache.layout import KEY
from radam_codegen.toolchain.manifest import MANIFEST, find_fault, read_manifest, write_manifest

F64, F32, BF16, F16 = DType.FLOAT64, DType.FLOAT32, DType.BFLOAT16, DType.FLOAT16

PLAN = UpdatePlan(
    (
        GroupPlan((TensorPlan("linear_0.w_0", (3, 4), F32, F32, F32),)),
        GroupPlan(
            (
                TensorPlan("a", (), F32, F32, F32, decay=Decay(DecayKind.L2, 0.0, True)),
                TensorPlan("b", (7,), BF16, F32, F32, True, 0.5, need_clip=False),
                TensorPlan("c", (7,), BF16, F32, F32, True, 0.5, need_clip=False),
                TensorPlan("d", (0, 2), F16, F16, F32, decay=Decay(DecayKind.L1, 1e-4)),
                TensorPlan("*/{{ 7 * 7 }}", (2,), F64, F64, F64),
            ),
            beta1=0.8,
            epsilon=1e-6,
            clip=Clip(ClipKind.VALUE, 1.0, -0.5),
            skip=True,
        ),
    )
)


def flat(group: GroupPlan) -> Moments:
    return flat_moments((tensor.moment_dtype, tensor.numel) for tensor in group.tensors)


@dataclass(frozen=True)
class Reader:
    """A reader of documents, and good ones of its kind."""

    read: Callable[[str], Any]
    write: Callable[[Any], str]
    structures: Callable[[Any], list[KernelStructure]]
    seeds: tuple[str, ...]
    #: Beginnings of messages: each names a place.
    places: str


READERS = {
    "plan": Reader(
        UpdatePlan.from_json,
        UpdatePlan.to_json,
        lambda plan: [group.structure for group in plan.groups],
        (PLAN.to_json(), UpdatePlan(PLAN.groups[:1]).to_json()),
        r"(document|format|version|layout|groups|group \d+|the text)\b",
    ),
    "launch": Reader(
        LaunchSpec.from_text,
        LaunchSpec.to_text,
        lambda launch: [launch.structure],
        tuple(
            LaunchSpec.from_group(group, moments=moments_of(group)).to_text()
            for moments_of in (lambda group: None, flat)
            for group in PLAN.groups
        ),
        r"the 'launch' attribute of a radam_codegen operator cannot be read: "
        r"(document|version|clip|skip|classes|numbers|tensors|moments|target|group 0|the text)\b",
    ),
}

readers = pytest.mark.parametrize("reader", READERS.values(), ids=READERS)


@cache
def check_code(structure: KernelStructure) -> None:
    """What was read shapes no code but that of a structure that we know."""
    known = structure_from_name(structure.name)
    assert known == structure
    # The types too: 1 is equal to True, and is not what a template prints.
    assert repr(known) == repr(structure)
    text = render(lower_structure(structure)).text
    assert text == render(lower_structure(known)).text
    assert text.isascii()


def accepted(reader: Reader, text: str) -> bool:
    """Whether a text is read; fails where it is neither read well nor refused well."""
    try:
        found = reader.read(text)
    except PlanError as error:
        message = str(error)
        assert re.match(reader.places, message), message[:200]
        assert message.isprintable(), ascii(message[:200])
        assert len(message) < 1000, message[:200]
        return False
    written = reader.write(found)
    assert reader.read(written) == found
    assert reader.write(reader.read(written)) == written
    for structure in reader.structures(found):
        check_code(structure)
    shown = str(found)
    assert all(line.isprintable() for line in shown.splitlines())
    assert shown.encode("utf-8")
    return True


@readers
@pytest.mark.parametrize("seed", range(4))
def test_mutated_documents(reader: Reader, seed: int) -> None:
    generator = random.Random(seed)
    outcomes = [
        accepted(reader, mutated(generator.choice(reader.seeds), generator)) for _ in range(2600)
    ]
    # Were all refused, or all read, the changes would show nothing.
    assert 50 < sum(outcomes) < 1400


@readers
def test_broken_texts(reader: Reader) -> None:
    outcomes = [accepted(reader, text) for seed in reader.seeds for text in broken_texts(seed)]
    # A whole document is among the rests, once each.
    assert sum(outcomes) == len(reader.seeds)


# ---- Manifests and indexes, which state a digest of themselves ----------------------------------


def _manifest(folder: Path) -> bytes:
    (folder / "kernel.c").write_text("int x;")
    write_manifest(folder, "0" * 32, {"name": "radam_no_clip__f32_l2", "flags": ["-O2"], "abi": 1})
    return (folder / MANIFEST).read_bytes()


def _read_manifest(folder: Path, content: bytes) -> None:
    (folder / MANIFEST).write_bytes(content)
    assert set(read_manifest(folder)) >= {"format", "key", "files", "build", "sha256"}
    # What it says of the files may be anything, and is compared with what they are.
    find_fault(folder, "0" * 32)


def _index(folder: Path) -> bytes:
    key, digest = "ab" * 16, "cd" * 32
    variant = Variant("x86-64-v3", "x86_64", ("avx2", "fma"), key, digest)
    return index_to_bytes(
        BundleIndex(
            kernels={"radam_no_clip__f32_l2": BundledKernel(digest, (variant,))},
            operators=(BundledOperator("3.3.1 (commit)", "x86_64", key, digest),),
            plans={"plan.json": digest},
        )
    )


def _read_index(folder: Path, content: bytes) -> None:
    index = index_from_bytes(content)
    assert index_from_bytes(index_to_bytes(index)) == index
    assert all(KEY.fullmatch(each.key) for each in index.operators)


def _signed_manifest(content: dict[str, Any]) -> bytes:
    """A manifest with the digest that it should have, so that more than that is looked at."""
    content.pop("sha256", None)
    digest = hashlib.sha256(_dumped(content, 2)).hexdigest()
    return _dumped({**content, "sha256": digest}, 2)


def _signed_index(content: dict[str, Any]) -> bytes:
    text = _dumped({**content, "sha256": "0" * 64}, 1)
    return text.replace(b"0" * 64, hashlib.sha256(text).hexdigest().encode())


def _dumped(content: dict[str, Any], indent: int) -> bytes:
    return (json.dumps(content, indent=indent, sort_keys=True) + "\n").encode()


def _signed(text: str, sign: Callable[[dict[str, Any]], bytes]) -> bytes:
    try:
        return sign(json.loads(text))
    except (ValueError, TypeError, AttributeError, RecursionError):
        return text.encode("utf-8", "surrogatepass")


DIGESTED = {
    "manifest": (_manifest, _read_manifest, _signed_manifest),
    "index": (_index, _read_index, _signed_index),
}


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("kind", DIGESTED)
def test_documents_with_a_digest(kind: str, signed: bool, tmp_path: Path) -> None:
    write, read, sign = DIGESTED[kind]
    seed = write(tmp_path)
    read(tmp_path, seed)
    assert sign(json.loads(seed)) == seed
    generator = random.Random(kind)
    texts = [mutated(seed.decode(), generator) for _ in range(800)]
    messages, good = [], 0
    for text in (*texts, *broken_texts(seed.decode())):
        content = _signed(text, sign) if signed else text.encode("utf-8", "surrogatepass")
        try:
            read(tmp_path, content)
        except ValueError as error:
            messages.append(str(error))
        else:
            assert signed or content == seed
            good += 1
    assert all(each.isprintable() and 0 < len(each) < 500 for each in messages), messages
    assert len(messages) > 200
    assert good > (50 if signed else 0)


@given(update_plans())
@settings(max_examples=30)
def test_launches_read_back_equal(plan: UpdatePlan) -> None:
    for group in plan.groups:
        for moments in (None, flat(group)):
            spec = LaunchSpec.from_group(group, moments=moments)
            assert LaunchSpec.from_text(spec.to_text()) == spec


@pytest.mark.parametrize(
    ("moments", "message"),
    [
        ([], r"moments: must have 2 entries, not 0"),
        ([[], []], r"moments\[0\]: must have an entry"),
        ([[8], [[0, 0]]], r"moments\[1\]: must have 2 entries, not 1"),
        ([[8], [[0, 0], [1, 0]]], r"moments\[1\]\[1\]\[0\]: must be from 0 to 0"),
        ([[8, 8], [[1, 0], [0, 0]]], r"moments\[1\]\[0\]\[0\]: must be from 0 to 0"),
        ([[8, 8, 8], [[0, 0], [1, 0]]], r"moments\[0\]: must be those of the storages in use"),
        ([[8], [[0, 0], [0, 9]]], r"moments\[1\]\[1\]\[1\]: must be from 0 to 8"),
        ([[8], [[0, 0], [0, -1]]], r"moments\[1\]\[1\]\[1\]: must be from 0 to 8"),
        ([[-1], [[0, 0], [0, 0]]], r"moments\[0\]\[0\]: must be from 0 to"),
        ([[8.5], [[0, 0], [0, 0]]], r"moments\[0\]\[0\]: must be an integer"),
        ([[8], [[0, 0], [0, 4]]], r"moments\[1\]\[1\]\[0\]: holds moments of type float32, not fl"),
    ],
)
def test_moments_that_lie_nowhere(moments: object, message: str) -> None:
    group = GroupPlan((TensorPlan("a", (2,), F32, F32, F32), TensorPlan("b", (3,), F64, F64, F64)))
    document = json.loads(LaunchSpec.from_group(group, moments=flat(group)).to_text())
    document["moments"] = moments
    with pytest.raises(PlanError, match=message):
        LaunchSpec.from_text(json.dumps(document))


def test_moments_are_laid_out_by_type_on_lines_of_the_cache() -> None:
    assert flat_moments([(F32, 17), (F64, 9), (F32, 0), (F32, 1), (F64, 2)]) == Moments(
        (33, 18), ((0, 0), (1, 0), (0, 32), (0, 32), (1, 16))
    )


@pytest.mark.parametrize("count", [10**6 + 1, 10**9, 2**63, 10**30])
def test_a_launch_of_too_many_tensors_takes_no_memory(count: int) -> None:
    one = "[1,1.0,0.0,true,0]"
    text = READERS["launch"].seeds[0]
    assert one in text
    with pytest.raises(PlanError, match=r"tensors\[0\]\[0\]: must be from 1 to 1000000, not "):
        LaunchSpec.from_text(text.replace(one, one.replace("1", str(count), 1)))
    many = ",".join([f"[1000000,{rate}.0,0.0,true,0]" for rate in range(1000)])
    with pytest.raises(PlanError, match="tensors: are more than the 1000000 of any launch"):
        LaunchSpec.from_text(text.replace(one, many))


@pytest.mark.parametrize("name", STRINGS, ids=lambda name: ascii(name[:20]))
def test_names_reach_no_code(name: str) -> None:
    tensor = TensorPlan(name or "-", (2,), F32, F32, F32)
    plan = UpdatePlan((GroupPlan((tensor,)),))
    assert accepted(READERS["plan"], plan.to_json())
    assert plan.groups[0].structure == UpdatePlan(PLAN.groups[:1]).groups[0].structure


@pytest.mark.parametrize("name", STRINGS, ids=lambda name: ascii(name[:20]))
def test_names_in_messages(name: str) -> None:
    document = json.loads(UpdatePlan(PLAN.groups[:1]).to_json())
    tensor = document["groups"][0]["tensors"][0]
    document["groups"][0]["tensors"] = [{**tensor, "name": name, "shape": [-1]}]
    assert not accepted(READERS["plan"], json.dumps(document))
    document["groups"][0]["tensors"] = [{**tensor, "name": name}] * 2
    assert not accepted(READERS["plan"], json.dumps(document))


def test_a_launch_that_lists_its_classes_in_another_way() -> None:
    text = READERS["launch"].seeds[1]
    document = json.loads(text)
    assert len(document["classes"]) > 2
    assert accepted(READERS["launch"], text)
    for classes in (document["classes"][::-1], [*document["classes"], ["float64"] * 3]):
        assert not accepted(READERS["launch"], json.dumps({**document, "classes": classes}))
    document["tensors"].pop()
    with pytest.raises(PlanError, match="classes: must be those of the tensors"):
        LaunchSpec.from_text(json.dumps(document))
