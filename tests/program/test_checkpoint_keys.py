"""Which parameter an entry of a checkpoint belongs to."""

from __future__ import annotations

import pytest

from radam_codegen.program.checkpoint_keys import Entries, entry_key, find_entries, is_group_step


def find(
    *keys: str, params: str = "w", name: str | None = None, own: str = "", foreign: str = ""
) -> Entries:
    owned = {("w", "moment1"): own} if own else {}
    return find_entries(keys, set(params.split()), name, owned, foreign.split().__contains__)


@pytest.mark.parametrize("kind", ["moment1", "moment2", "step", "beta1_pow", "beta2_pow", "rho"])
@pytest.mark.parametrize("number", [0, 1, 23])
def test_every_kind_under_any_number(kind: str, number: int) -> None:
    assert find(f"w_{kind}_{number}").found == {"w": {kind: f"w_{kind}_{number}"}}


def test_the_longest_parameter_counts() -> None:
    found = find("w_1_moment1_0", "w_moment1_0", params="w w_1").found
    assert found == {"w_1": {"moment1": "w_1_moment1_0"}, "w": {"moment1": "w_moment1_0"}}


@pytest.mark.parametrize(
    "param", ["a_moment1", "a_step_0", "_", "linear_0.w_0", "x y\n", "{{ a }}"]
)
def test_names_that_look_like_something_else(param: str) -> None:
    found = find_entries([f"{param}_moment1_0"], {param, "a"}, None, {}, lambda key: False).found
    assert found == {param: {"moment1": f"{param}_moment1_0"}}


def test_the_optimizer_s_own_name_comes_first() -> None:
    keys = ("w_moment1_0", "w_own_moment1_0", "w_other_moment1_0")
    assert find(*keys, name="own").found == {"w": {"moment1": "w_own_moment1_0"}}
    assert find(*keys).found == {"w": {"moment1": "w_moment1_0"}}
    assert find(*keys, name="third").found == {"w": {"moment1": "w_moment1_0"}}
    assert find(*keys[2:], name="own").found == {"w": {"moment1": "w_other_moment1_0"}}


@pytest.mark.parametrize("other", ["w_a_moment2_0", "v_moment1_0", "v_a_moment1_0"])
def test_another_name_must_be_that_of_all(other: str) -> None:
    # Else it is more likely a part of the names of another model's parameters.
    assert find("w_b_moment1_0", other).found == {}


def test_parameters_of_others_may_have_it_too() -> None:
    keys = ("w_b_moment1_0", "v_b_moment1_0", "learning_rate_0")
    assert find(*keys).found == {"w": {"moment1": "w_b_moment1_0"}}


def test_another_name_is_no_number() -> None:
    assert find("w_1_moment1_0").found == {}


def test_master_weights_bear_no_name() -> None:
    keys = ("w_own_moment1_0", "w_fp32_master_0")
    expected = {"w": {"moment1": keys[0], "fp32_master": keys[1]}}
    for name in (None, "own", "other"):
        assert find(*keys, name=name).found == expected
    assert find("w_1_fp32_master_0", params="w w_1").found == {
        "w_1": {"fp32_master": "w_1_fp32_master_0"}
    }


def test_of_several_numbers_the_optimizer_s_own() -> None:
    keys = ("w_moment1_0", "w_moment1_1", "w_moment1_2")
    entries = find(*keys, own="w_moment1_1")
    assert entries.found == {"w": {"moment1": "w_moment1_1"}}
    assert not entries.twice
    assert find(*keys, own="w_moment1_7").twice == [("w", "moment1", keys)]


def test_what_is_unknown_of_a_parameter_of_ours() -> None:
    assert find("w_velocity_0", "v_velocity_0", "w", "w_1").unknown == ["w_velocity_0"]
    assert find("w_velocity_0", foreign="w_velocity_0").unknown == []


def test_names_that_are_given() -> None:
    assert entry_key("w", None, "step") == "w_step_0"
    assert entry_key("w", "own", "step") == "w_own_step_0"
    assert find(entry_key("w", "own", "rho")).found == {"w": {"rho": "w_own_rho_0"}}


def test_step_counts_of_a_group() -> None:
    assert is_group_step("radam_step_12")
    assert not is_group_step("w_radam_step_0")
    assert not is_group_step("radam_step")
