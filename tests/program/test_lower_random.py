"""Random native programs: lowered they go the same way, raised again they are the same."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from support.native_programs import operators_of, random_network, train

import radam_codegen as rc

pytestmark = pytest.mark.usefixtures("static_mode")


@pytest.mark.parametrize("seed", range(14))
def test_lowered_and_raised(seed: int) -> None:
    native, lowered = random_network(seed), random_network(seed)
    text = operators_of(lowered.small.main), operators_of(lowered.small.startup)
    report = rc.lower(lowered.small.main, lowered.small.startup, scope=lowered.small.scope)
    assert report.matched
    assert not report.left
    noted = {name for step in report.steps for name, _ in step.notes}
    # Updating a parameter twice by parts of its gradient leaves no way to take all in.
    assert not noted or "shared" in noted
    native.small.start()
    lowered.small.start()
    for name, value in native.values().items():
        lowered.small.scope.find_var(name).get_tensor().set(value, paddle.CPUPlace())
    expected, found = train(native), train(lowered)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, 2e-5, 2e-6, err_msg=name)
    assert not rc.lower(lowered.small.main, lowered.small.startup).matched  # twice is once
    rc.raise_native(lowered.small.main, lowered.small.startup, scope=lowered.small.scope)
    assert (operators_of(lowered.small.main), operators_of(lowered.small.startup)) == text
    expected, found = train(native, 3, 12), train(lowered, 3, 12)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, 4e-5, 4e-6, err_msg=name)
