"""How a step in dynamic graph reads its tensors: by the operator library, and without its help."""

from __future__ import annotations

import _ctypes
import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import paddle
import pytest
from paddle.nn import ClipGradByGlobalNorm
from support.eager import Reference, parameter, steps_of

import radam_codegen as rc
from radam_codegen.errors import (
    ArgumentTypeError,
    ProgramError,
    RadamCodegenError,
    UnsupportedError,
)
from radam_codegen.program import kernels
from radam_codegen.program.dygraph_tensors import LaunchTensors
from radam_codegen.program.installation import openmp_path, python_module_path

pytestmark = pytest.mark.either_ir

LR = 0.05
ONES = [1.0, -2.0, 3.0]
_MODULE = python_module_path()
#: It is in every process with Paddle, and lacks what the module has.
_ANOTHER_LIBRARY = openmp_path().with_name("libphi_core.so")


@pytest.fixture(params=["library", "python"])
def reader(request: pytest.FixtureRequest) -> Iterator[str]:
    """Who reads the tensors."""
    library = kernels.operator()
    if request.param == "python":
        assert not library.set_python_module(_ANOTHER_LIBRARY)
    yield request.param
    assert library.set_python_module(_MODULE)


def launch_of(params: list[Any], masters: list[Any] | None = None) -> LaunchTensors:
    """Tensors of a launch whose moments are zeros."""
    zeros = [[paddle.zeros(each.shape, dtype=each.dtype) for each in params] for _ in range(2)]
    return LaunchTensors(kernels.operator(), params, *zeros, masters or [None] * len(params))


def test_this_paddle_tells_what_tensors_objects_are() -> None:
    library = kernels.operator()
    assert library.set_python_module(_MODULE)
    assert library.read_tensors(None, None, 0, None, None) == 0
    assert not library.set_python_module(_ANOTHER_LIBRARY.with_name("no_such_library.so"))
    assert library.read_tensors(None, None, 0, None, None) == 0, "what it had before stays"
    assert not library.set_python_module(_ANOTHER_LIBRARY)
    assert library.read_tensors(None, None, 0, None, None) == -1
    assert library.set_python_module(_MODULE)


def test_pythons_lock_is_held_while_tensors_are_read() -> None:
    assert kernels.operator().read_tensors._flags_ & _ctypes.FUNCFLAG_PYTHONAPI


@pytest.mark.parametrize("shape", [[3], [2, 3], [], [0], [3, 0], [1, 1, 4], [1] * 9], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_the_rows_of_a_launch(reader: str, shape: list[int], dtype: str) -> None:
    params = [paddle.ones(shape, dtype=dtype) for _ in range(2)]
    grads = [paddle.ones(shape, dtype=dtype) for _ in range(2)]
    masters = [None, paddle.ones(shape)]
    launch = launch_of(params, masters)
    launch.adopt(grads)
    assert launch.read(grads)
    for place, (param, moment1, moment2, master) in enumerate(launch._rows):
        row = launch.pointer[place]
        fields = (row.param, row.grad, row.moment1, row.moment2, row.master)
        tensors = (param, grads[place], moment1, moment2, master)
        addresses = [int(kernels.operator().ffi.cast("intptr_t", each)) for each in fields]
        assert addresses == [0 if each is None else each.data_ptr() for each in tensors]
        assert row.numel == param.size


def test_a_view_that_begins_inside_of_memory(reader: str) -> None:
    view = paddle.arange(10, dtype="float32")[2:5]
    assert view.is_contiguous()
    launch = launch_of([paddle.ones([3])])
    launch.adopt([view])
    grad = kernels.operator().ffi.cast("float *", launch.pointer[0].grad)
    assert list(grad[0:3]) == [2.0, 3.0, 4.0]


def state_of(opt: Any, name: str) -> Any:
    """The tensor of the optimizer's state whose name begins so."""
    (tensor,) = [value for key, value in opt.state_dict().items() if key.startswith(name)]
    return tensor


def strided() -> Any:
    return paddle.arange(6, dtype="float32")[::2]


def without_memory() -> Any:
    tensor = paddle.ones([3])
    tensor._clear_data()
    return tensor


def with_too_little_memory() -> Any:
    tensor = paddle.ones([2])
    tensor.get_tensor()._set_dims([3])
    return tensor


def sparse_rows() -> Any:
    table = paddle.nn.Embedding(3, 3, sparse=True)
    table(paddle.to_tensor([1])).sum().backward()
    return table.weight.grad


UNUSABLE: dict[str, Callable[[], Any]] = {
    "an array": lambda: np.ones(3, "float32"),
    "a list": lambda: [1.0, 2.0, 3.0],
    "nothing": lambda: None,
    "strided": strided,
    "longer": lambda: paddle.ones([4]),
    "of another rank": lambda: paddle.ones([1, 3]),
    "empty": paddle.Tensor,
    "without memory": without_memory,
    "with too little memory": with_too_little_memory,
    "sparse rows": sparse_rows,
    "sparse": lambda: paddle.sparse.sparse_coo_tensor([[0, 2]], [1.0, 2.0], [3]),
}


@pytest.mark.parametrize("what", UNUSABLE)
@pytest.mark.parametrize("role", ["gradient", "moment1", "moment2", "master weight"])
def test_what_a_kernel_cannot_take_is_named(reader: str, role: str, what: str) -> None:
    if what == "nothing" and role == "master weight":
        pytest.skip("that is how a row has none")
    tensors = {each: [paddle.ones([3]) for _ in range(3)] for each in ("moment1", "moment2")}
    tensors |= {
        each: [paddle.ones([3]) for _ in range(3)] for each in ("gradient", "master weight")
    }
    tensors[role][1] = UNUSABLE[what]()
    params = [parameter(name, ONES) for name in "abc"]
    state = (tensors["moment1"], tensors["moment2"], tensors["master weight"])
    launch = LaunchTensors(kernels.operator(), params, *state)
    with pytest.raises(UnsupportedError, match=f"^the {role} of parameter 'b' cannot be used"):
        launch.adopt(tensors["gradient"])
    assert not launch.read(tensors["gradient"])


def test_a_parameter_that_a_kernel_cannot_take_is_named(reader: str) -> None:
    for spoil in (lambda b: setattr(b, "data", strided()), lambda b: b._clear_data()):
        a, b = parameter("a", ONES), parameter("b", ONES)
        launch = launch_of([a, b])
        grads = [paddle.ones([3]), paddle.ones([3])]
        launch.adopt(grads)
        spoil(b)
        assert not launch.read(grads)
        with pytest.raises(UnsupportedError, match=r"^parameter 'b' cannot be used"):
            launch.adopt(grads)


def test_types_must_be_those_that_were_adopted(reader: str) -> None:
    launch = launch_of([paddle.ones([3])])
    launch.adopt([paddle.ones([3])])
    assert not launch.read([paddle.ones([3], dtype="int32")])
    assert launch.read([paddle.zeros([3])])
    launch.adopt([paddle.ones([3], dtype="float64")])
    assert not launch.read([paddle.ones([3])])


def test_gradients_and_parameters_that_move(reader: str) -> None:
    a, b = parameter("a", ONES), parameter("b", [ONES, ONES])
    reference = Reference(a, b)
    opt = rc.RAdam(LR, parameters=[a, b])
    addresses, plans, kept = set(), set(), []
    for number in range(8):
        random = np.random.default_rng(number)
        grads = {"a": random.standard_normal(3), "b": random.standard_normal((2, 3))}
        given = [paddle.to_tensor(each.astype("float32")) for each in grads.values()]
        kept.append(given)  # so that the next ones are elsewhere
        if number == 3:
            a.data = a.clone()
        elif number == 4:
            b.set_value(b.numpy())
        elif number == 5:
            paddle.assign(b.numpy(), b)
        elif number == 6:
            moment = state_of(opt, "a_moment1")
            moment.data = moment.clone()
        addresses.add(given[0].data_ptr())
        opt.apply_gradients(list(zip((a, b), given)))
        plans.add(id(opt.plan))
        reference.step(grads, LR)
        reference.check(a, b)
    assert len(addresses) == 8
    assert len(plans) == 1


def test_gradients_of_alternating_types_are_both_remembered(reader: str) -> None:
    a = parameter("a", ONES, "bfloat16")
    opt = rc.RAdam(LR, parameters=[a], multi_precision=True)
    plans = []
    for number in range(6):
        grad = paddle.to_tensor(ONES).astype("float32" if number % 2 else "bfloat16")
        opt.apply_gradients([(a, grad)])
        plans.append(opt.plan)
    assert plans[2] is plans[4] is plans[0]
    assert plans[3] is plans[5] is plans[1]
    assert plans[0] != plans[1]
    assert steps_of(opt) == {"a": 6}


def spoilt(kind: str, b: Any, opt: Any) -> Any:
    """Change what the step rests on; return the gradient to step by."""
    if kind == "type":
        b.data = paddle.ones([3], dtype="int32")
    elif kind == "view":
        b.data = paddle.as_strided(paddle.ones([6]), [3], [0])
    elif kind == "parameter's memory":
        b._clear_data()
    elif kind == "moment's shape":
        state_of(opt, "b_moment2").data = paddle.ones([4])
    elif kind == "moment's type":
        state_of(opt, "b_moment2").data = paddle.ones([3], dtype="float64")
    elif kind == "moment's memory":
        state_of(opt, "b_moment2")._clear_data()
    elif kind == "gradient's memory":
        return without_memory()
    return UNUSABLE[kind]() if kind in UNUSABLE else paddle.ones([3])


REFUSED = {
    "type": (RadamCodegenError, "'b'.*int32"),
    "view": (UnsupportedError, "'b' is a view"),
    "parameter's memory": (UnsupportedError, "^parameter 'b' cannot be used"),
    "moment's shape": (ProgramError, "'b' is now .*moment2"),
    "moment's type": (ProgramError, "'b' is now .*moment2"),
    "moment's memory": (UnsupportedError, "^the moment2 of parameter 'b'"),
    "gradient's memory": (UnsupportedError, "^the gradient of parameter 'b' cannot"),
    "an array": (ArgumentTypeError, "'b' is of type ndarray"),
    "longer": (UnsupportedError, r"'b' has the shape \[4\]"),
    "sparse rows": (UnsupportedError, "'b' is sparse"),
    "sparse": (UnsupportedError, "^the gradient of parameter 'b' cannot"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_changed_since_the_last_step_is_refused(reader: str, kind: str) -> None:
    a, b = parameter("a", ONES), parameter("b", ONES)
    # Two launches: the first has nothing amiss, and must not run.
    opt = rc.RAdam(LR, parameters=[{"params": [a]}, {"params": [b], "beta1": 0.5}])
    opt.apply_gradients([(a, paddle.ones([3])), (b, paddle.ones([3]))])
    before, version = a.numpy(), a.inplace_version
    grad = spoilt(kind, b, opt)
    error, match = REFUSED[kind]
    for _ in range(2):
        with pytest.raises(error, match=match):
            opt.apply_gradients([(a, paddle.ones([3])), (b, grad)])
    np.testing.assert_array_equal(a.numpy(), before)
    assert a.inplace_version == version
    assert steps_of(opt) == {"a": 1, "b": 1}


def test_a_gradient_that_is_a_view_after_one_that_was_none(reader: str) -> None:
    a, b = parameter("a", ONES), parameter("b", ONES)
    reference = Reference(a, b)
    opt = rc.RAdam(LR, parameters=[a, b], grad_clip=ClipGradByGlobalNorm(1e9))
    for number in range(7):
        grad = strided() if number % 2 else paddle.to_tensor([0.0, 2.0, 4.0])
        opt.apply_gradients([(b, paddle.to_tensor(ONES)), (a, grad)])
        reference.step({"a": [0.0, 2.0, 4.0], "b": ONES}, LR)
    reference.check(a, b)
    assert len(opt._stepper._prepared) == 1


def test_gradients_are_not_kept(reader: str) -> None:
    a = parameter("a", ONES)
    opt = rc.RAdam(LR, parameters=[a])
    grad = paddle.to_tensor(ONES)
    gone = weakref.ref(grad)
    for _ in range(2):
        opt.apply_gradients([(a, grad)])
    del grad
    gc.collect()
    assert gone() is None
