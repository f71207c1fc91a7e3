"""Every command with arguments, files and settings that nobody gives in earnest.

Each call ends in 0, 1 or 2, and never in a traceback. Commands that come later are called too: what
they take is read from click.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from support.hostile import STRINGS, broken_texts, mutated

from radam_codegen.cli import main
from radam_codegen.codegen import render
from radam_codegen.config import SETTINGS, Config
from radam_codegen.errors import ArtifactError
from radam_codegen.ir.dtypes import DType
from radam_codegen.ir.launch import LaunchSpec
from radam_codegen.ir.plan import GroupPlan, TensorPlan, UpdatePlan
from radam_codegen.passes import lower_structure
from radam_codegen.toolchain import build_kernel
from radam_codegen.toolchain.bundle_index import INDEX, index_from_bytes, index_to_bytes
from radam_codegen.toolchain.manifest import MANIFEST, write_manifest
from radam_codegen.tools.aot.run import aot
from radam_codegen.tools.verify.rebuild import machine_code_fault

CALLS = 2200

#: Commands that train when their arguments are good: they are given one that is not.
TRAINING = {"bench", "demo", "doctor"}
#: Flags that make a call take long, however good the rest of it is.
LONG_FLAGS = {"--all"}

F32 = DType.FLOAT32
PLAN = UpdatePlan((GroupPlan((TensorPlan("w", (3,), F32, F32, F32),)),))
NUMBERS = ("0", "1", "2", "-1", "007", "1.0", "1e3", "nan", "inf", "-inf", "9" * 30, "9" * 5000)
#: What JSON can hold where text or a list of texts is wanted.
VALUES: tuple[Any, ...] = (None, True, 0, -1, 1e308, 10**30, [], {}, [1, None], {"a": []}, [["x"]])


@dataclass(frozen=True)
class Place:
    """A folder of hostile files, and what a command can be pointed to."""

    root: Path
    #: What is there, and names of it.
    there: tuple[str, ...]
    #: Anything else.
    strings: tuple[str, ...]
    bundle: Path
    cache: Path

    def target(self, generator: random.Random) -> str:
        return generator.choice(self.there if generator.random() < 0.8 else self.strings)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    # Deep, so that what climbs out of it by ".." stays in the tests' own folder.
    top = tmp_path_factory.mktemp("hostile")
    root = top / "a" / "b" / "c" / "d" / "e"
    root.mkdir(parents=True)
    generator = random.Random(0)
    there = [*_write_files(root / "files", generator), *_write_trees(root, generator)]
    strings = [*STRINGS, *NUMBERS, *_names(generator), "-", "--", "--json", "/dev/null", "~", "."]
    return Place(root, tuple(there), tuple(strings), root / "bundle", root / "cache")


def _write_files(folder: Path, generator: random.Random) -> Iterator[str]:
    (folder / "folder" / "inner").mkdir(parents=True)
    plan, launch = PLAN.to_json(), LaunchSpec.from_group(PLAN.groups[0]).to_text()
    program = json.dumps(_pir_program(launch))
    contents: dict[str, bytes] = {
        "empty": b"",
        "nul": b"\0" * 999,
        "plan.json": plan.encode(),
        "plan with spaces \u00fc.json": plan.encode(),
        "utf16.json": plan.encode("utf-16"),
        "bom.json": plan.encode("utf-8-sig"),
        "latin.json": plan.replace('"w"', '"\xfc"').encode("latin-1"),
        "program.json": program.encode(),
        "legacy.pdmodel": _legacy_program(launch.encode()),
        "both.json": program.encode(),
        "both.pdmodel": _legacy_program(launch.encode()),
        "library.so": b"\x7fELF" + generator.randbytes(500),
    }
    for number in range(12):
        contents[f"random{number}"] = generator.randbytes(generator.choice((1, 20, 3000)))
        contents[f"random{number}.pdmodel"] = generator.randbytes(300)
        contents[f"plan{number}.json"] = _bytes(mutated(plan, generator))
        contents[f"program{number}.json"] = _bytes(mutated(program, generator))
        contents[f"launch{number}.json"] = _bytes(
            json.dumps(_pir_program(mutated(launch, generator)))
        )
        legacy = bytearray(_legacy_program(_bytes(mutated(launch, generator))))
        legacy[generator.randrange(len(legacy))] ^= 1 << generator.randrange(8)
        contents[f"legacy{number}.pdmodel"] = bytes(legacy)
    broken = [text for text in broken_texts(plan) if len(text) < 200_000]
    for number, text in enumerate(generator.sample(broken, 20)):
        contents[f"broken{number}.json"] = _bytes(text)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    (folder / "loop").symlink_to("loop")
    (folder / "dangling").symlink_to("nowhere")
    (folder / "link").symlink_to("plan.json")
    os.close(os.open(os.fsencode(folder) + b"/undecodable\xff.json", os.O_CREAT | os.O_WRONLY))
    for path in sorted(folder.iterdir()):
        yield str(path)
    yield from (
        str(folder / name) for name in ("both", "program", "legacy", "missing", "missing/x")
    )


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _pir_program(launch: str) -> dict[str, Any]:
    attributes = [{"N": "launch", "AT": {"#": "0.a_str", "D": launch}}]
    step = {"#": "4.radam_codegen_step_", "A": attributes, "I": [], "O": []}
    region = {"#": "region_0", "blocks": [{"#": "block_0", "args": [], "ops": [step]}]}
    return {
        "base_code": {"magic": "pir", "version": 1, "trainable": True},
        "program": {"regions": [region]},
    }


def _legacy_program(launch: bytes) -> bytes:
    attribute = _field(1, b"launch") + _field(5, launch)
    return _field(1, _field(4, _field(3, b"radam_codegen_step") + _field(4, attribute)))


def _field(number: int, content: bytes) -> bytes:
    size, left = b"", len(content)
    while left >= 0x80:
        size += bytes([left & 0x7F | 0x80])
        left >>= 7
    return bytes([number << 3 | 2]) + size + bytes([left]) + content


def _write_trees(root: Path, generator: random.Random) -> Iterator[str]:
    """A cache and a bundle with good and with damaged entries; keys, names and folders in them."""
    source = render(lower_structure(PLAN.groups[0].structure))
    built = build_kernel(source, Config(root / "cache", 1))
    aot(root / "bundle", kernels=[source.name], cpus=["x86-64-v1"], operator=False)
    good = built.library.parent
    for number in range(18):
        entry = good.with_name(f"{generator.getrandbits(128):032x}")
        shutil.copytree(good, entry)
        _damage(entry, generator, number)
        yield entry.name
        yield str(entry)
    (good.parent / "file").write_text("no entry")
    (good.parent / "\x1b[31m").mkdir()
    for number in range(12):
        bundle = root / f"bundle{number}"
        shutil.copytree(root / "bundle", bundle)
        index = json.loads((bundle / INDEX).read_text())
        text = mutated(json.dumps(index), generator)
        if number % 2:
            text = _signed_index(text)
        (bundle / INDEX).write_bytes(_bytes(text))
        yield str(bundle)
    whole = (root / "bundle", root / "cache", good, good.parent, good / MANIFEST, built.library)
    yield from (*map(str, whole), good.name, good.name[:5], source.name)


def _damage(entry: Path, generator: random.Random, number: int) -> None:
    manifest = entry / MANIFEST
    content = json.loads(manifest.read_text())
    if number % 3 == 0:
        manifest.write_bytes(_bytes(mutated(json.dumps(content), generator)))
    elif number % 3 == 1:
        # One with the right digests that says nonsense of the build.
        facts = dict(content["build"])
        for name in generator.sample(sorted(facts), generator.choice((1, 1, 2, len(facts)))):
            facts[name] = generator.choice((*STRINGS, *VALUES))
        write_manifest(entry, entry.name, facts)
    else:
        victim = generator.choice(sorted(entry.iterdir()))
        data = victim.read_bytes()
        victim.write_bytes(data[: generator.randrange(len(data) + 1)])


def _signed_index(text: str) -> str:
    """An index with the digest that it should have, where it is JSON."""
    try:
        return index_to_bytes(index_from_bytes(text.encode())).decode()
    except (ValueError, RecursionError):
        return text


def _names(generator: random.Random) -> list[str]:
    name = PLAN.groups[0].structure.name
    names = [name, f"{name}__{name}", name.upper(), f"{name}__", f"{name}__f64_l2", "radam"]
    for _ in range(20):
        at = generator.randrange(len(name))
        names.append(
            name[:at] + generator.choice(("", "_", "x", "__", "\n", "\0")) + name[at + 1 :]
        )
    return names


def leaves(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every command that does something, with the words that call it."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from leaves(inner, (*path, name))
        return
    yield command, path


def arguments(command: click.Command, place: Place, generator: random.Random) -> list[str]:
    """Arguments for a call: most of those that it takes, with values good and bad."""
    words: list[list[str]] = []
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            if generator.random() < (0.9 if parameter.required else 0.35):
                words.append(_option(parameter, place, generator))
        elif generator.random() < 0.95:
            words.append([_value(parameter.type, place, generator)])
    generator.shuffle(words)
    if generator.random() < 0.05:
        words.append([place.target(generator)])
    return [word for each in words for word in each]


def _option(option: click.Option, place: Place, generator: random.Random) -> list[str]:
    name = generator.choice([*option.opts, *option.secondary_opts])
    if option.is_flag:
        return [] if name in LONG_FLAGS else [name]
    return [name, _value(option.type, place, generator)]


def _value(kind: click.ParamType, place: Place, generator: random.Random) -> str:
    if isinstance(kind, click.Choice) and generator.random() < 0.7:
        return str(generator.choice(list(kind.choices)))
    numeric = isinstance(kind, (click.types.IntParamType, click.types.FloatParamType))
    if numeric and generator.random() < 0.9:
        return generator.choice(("1", "2", "3", "4", *NUMBERS))
    return place.target(generator)


def settings(generator: random.Random, place: Place) -> dict[str, str]:
    """The environment: our own places, few compilers that work, and sometimes nonsense."""
    values = {
        "RADAM_CODEGEN_CACHE_DIR": str(place.cache),
        "RADAM_CODEGEN_LOCK_TIMEOUT": "1",
        "CC": "false",
        "CXX": "false",
        "NVCC": "false",
    }
    if generator.random() < 0.1:
        del values["CC"]
    if generator.random() < 0.25:
        name = generator.choice([setting.variable for setting in SETTINGS])
        value = generator.choice((place.target(generator), *NUMBERS[:2], "off", "aot-only"))
        values[name] = value.replace("\0", "").encode("utf-8", "replace").decode()
    return values


def test_every_command(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place.root)
    monkeypatch.setenv("HOME", str(place.root))
    commands = list(leaves(main))
    assert {path[0] for _, path in commands} >= {*TRAINING, "aot", "cache", "inspect", "verify"}
    weights = [
        8 if any(not getattr(p, "is_flag", False) for p in c.params) else 1 for c, _ in commands
    ]
    pristine = place.root / "pristine"
    for tree in (place.bundle, place.cache):
        shutil.copytree(tree, pristine / tree.name, symlinks=True)
    outcomes: Counter[tuple[str, int]] = Counter()
    for number in range(CALLS):
        generator = random.Random(number)
        ((command, path),) = generator.choices(commands, weights)
        given = [*path, *arguments(command, place, generator)]
        if path[0] in TRAINING:
            given.append("--no-such-option")
        elif generator.random() < 0.02:
            given.append("--help")
        environment = settings(generator, place)
        result = CliRunner().invoke(main, given, env=environment)
        what = f"call {number}: {ascii(given)[:500]}\n{ascii(result.output)[-2000:]}"
        assert result.exit_code in (0, 1, 2), f"{what}\n{result.exception!r}"
        assert result.exception is None or isinstance(result.exception, SystemExit), what
        assert "Traceback" not in result.output, what
        # What is in a file never reaches the terminal as it is.
        if not any("\x1b" in each for each in (*given, *environment.values())):
            assert "\x1b" not in result.output, what
        assert result.output or result.exit_code == 0 or "--json" in given, what
        outcomes[" ".join(path), result.exit_code] += 1
        for tree in (place.bundle, place.cache):
            if _entries(tree) != _entries(pristine / tree.name):
                shutil.rmtree(tree, ignore_errors=True)
                shutil.copytree(pristine / tree.name, tree, symlinks=True)
    for _, path in commands:
        refused, found, worked = (outcomes[" ".join(path), status] for status in (2, 1, 0))
        assert refused + found > 0, f"{path} took everything"
        assert found + worked > 0 or path[0] in TRAINING, f"{path} took nothing"


def test_a_bundle_whose_manifests_say_nonsense(place: Place, monkeypatch: Any) -> None:
    monkeypatch.setenv("RADAM_CODEGEN_CACHE_DIR", str(place.cache))
    monkeypatch.setenv("CC", "false")
    good = json.loads(next((place.bundle / "kernels").glob("*/" + MANIFEST)).read_text())["build"]
    bundle = place.root / "nonsense"
    said = list(itertools.product(sorted(good), (*STRINGS, *VALUES)))
    for number, (name, value) in enumerate(random.Random(0).sample(said, 60)):
        entry = bundle / "kernels" / f"{number:032x}"
        entry.mkdir(parents=True)
        (entry / "kernel.c").write_text("")
        write_manifest(entry, entry.name, {**good, name: value})
    (bundle / INDEX).write_text("damaged")
    for given in (
        ["aot", "--out", str(bundle), "--kernel", "radam_no_clip__f32_l2", "--no-operator"],
        ["verify", "--rebuild", str(bundle)],
        ["inspect", str(bundle), "--asm"],
        ["inspect", str(bundle), "--json"],
        ["diff", str(bundle), str(place.bundle)],
    ):
        result = CliRunner().invoke(main, given)
        what = f"{given}\n{result.output[-2000:]}\n{result.exception!r}"
        assert isinstance(result.exception, SystemExit) or result.exception is None, what
        assert result.exit_code in (0, 1, 2), what
        assert all(line.isprintable() for line in result.output.splitlines()), what


@pytest.mark.parametrize("name", ["cpu", "compiler", "flags", "command", "machine", "features"])
def test_a_library_that_is_compiled_anew_after_nonsense(name: str, place: Place) -> None:
    (manifest,) = (place.bundle / "kernels").glob("*/" + MANIFEST)
    build = json.loads(manifest.read_text())["build"]
    for value in (*STRINGS, *VALUES):
        said = {**build, name: value}
        fault = machine_code_fault(Path("kernels", "0" * 32), said, Config(place.cache, 1))
        assert fault is not None
        assert fault.isprintable()
        assert len(fault) < 400


@pytest.mark.parametrize("name", ["bundle\0", "\0"])
def test_a_bundle_with_a_name_that_no_folder_has(name: str, place: Place) -> None:
    with pytest.raises(ArtifactError, match="NUL"):
        aot(place.root / name, kernels=["radam_no_clip__f32_l2"], operator=False)


def _entries(tree: Path) -> list[str]:
    kernels = tree / "kernels"
    return sorted(os.listdir(kernels)) if kernels.is_dir() else []
