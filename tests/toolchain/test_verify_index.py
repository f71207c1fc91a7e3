"""Verification of a bundle as a whole: what its index says is what is there."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import radam_codegen as rc
from radam_codegen.ir.dtypes import DType
from radam_codegen.ir.plan import GroupPlan, TensorPlan, UpdatePlan
from radam_codegen.toolchain.bundle_index import (
    INDEX,
    BundleIndex,
    index_from_bytes,
    index_to_bytes,
)

FLOAT32 = (DType.FLOAT32, DType.FLOAT32, DType.FLOAT32)
PLAN = UpdatePlan((GroupPlan((TensorPlan("w", (3,), *FLOAT32),)),))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verify") / "bundle"
    assert rc.aot(folder, plans=[PLAN], cpus=["native"], operator=False).good
    return folder


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "bundle"
    shutil.copytree(made, copy)
    return copy


def plan_in(bundle: Path) -> Path:
    (plan,) = (bundle / "plans").iterdir()
    return plan


def kernel_in(bundle: Path) -> Path:
    (kernel,) = (bundle / "kernels").iterdir()
    return kernel


def index_of(bundle: Path) -> BundleIndex:
    return index_from_bytes((bundle / INDEX).read_bytes())


def rewrite(bundle: Path, **changes: Any) -> None:
    """Write the index anew, as somebody would who covers up a change."""
    index = dataclasses.replace(index_of(bundle), **changes)
    (bundle / INDEX).write_bytes(index_to_bytes(index))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_bundle_is_good(bundle: Path) -> None:
    report = rc.verify(bundle, rebuild=True)
    assert report.findings == ()
    assert (report.entries, report.rebuilt) == (1, 1)


#: A change, and how the finding about it begins.
CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "index": (lambda bundle: flip(bundle / INDEX), "bundle.json: "),
    "empty index": (lambda bundle: (bundle / INDEX).write_bytes(b""), "bundle.json: "),
    "index is a folder": (
        lambda bundle: ((bundle / INDEX).unlink(), (bundle / INDEX).mkdir()),
        "bundle.json: cannot be read",
    ),
    "plan": (lambda bundle: flip(plan_in(bundle)), "plans/"),
    "no plan": (lambda bundle: plan_in(bundle).unlink(), "plans/"),
    "another plan": (lambda bundle: (bundle / "plans" / "x.json").write_text("{}"), "plans/x.json"),
    "no entry": (lambda bundle: shutil.rmtree(kernel_in(bundle)), "kernels/"),
    "unlisted entry": (
        lambda bundle: rewrite(bundle, kernels={}, plans={}) or plan_in(bundle).unlink(),
        "kernels/",
    ),
    "plan without its kernel": (
        lambda bundle: rewrite(bundle, kernels={}) or shutil.rmtree(kernel_in(bundle)),
        "plans/",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_differs_from_the_index_is_found(change: str, bundle: Path) -> None:
    make, beginning = CHANGES[change]
    make(bundle)
    report = rc.verify(bundle)
    (only,) = report.findings
    assert str(only).startswith(beginning), only
    assert "\n" not in str(only)


def test_a_plan_that_is_none_is_found_although_its_digest_fits(bundle: Path) -> None:
    plan = plan_in(bundle)
    plan.write_text('{"groups": 1}')
    rewrite(bundle, plans={plan.name: hashlib.sha256(plan.read_bytes()).hexdigest()})
    (only,) = rc.verify(bundle).findings
    assert "cannot be understood" in only.what


def test_a_manifest_of_another_build_is_found(bundle: Path) -> None:
    index = index_of(bundle)
    ((name, kernel),) = index.kernels.items()
    (variant,) = kernel.variants
    other = dataclasses.replace(variant, manifest="0" * 64)
    rewrite(bundle, kernels={name: dataclasses.replace(kernel, variants=(other,))})
    (only,) = rc.verify(bundle).findings
    assert only.what == "its manifest is not the one that the index lists"
