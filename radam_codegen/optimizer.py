"""The optimizer: ``paddle.optimizer.RAdam`` on generated kernels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import compress
from operator import attrgetter
from typing import Any

import paddle
from paddle.base import core, framework
from paddle.base.dygraph.base import in_to_static_mode
from paddle.optimizer import Optimizer
from paddle.optimizer.lr import LRScheduler

from radam_codegen.codegen import KernelSource
from radam_codegen.config import current
from radam_codegen.errors import ArgumentError, ProgramError, UnsupportedError
from radam_codegen.frontend.arguments import (
    check_beta,
    check_clip,
    check_decay,
    check_decoupled,
    check_epsilon,
    check_flag,
    check_learning_rate,
    check_parameters,
)
from radam_codegen.frontend.current_groups import CurrentGroups
from radam_codegen.frontend.groups import GroupOptions, Groups
from radam_codegen.frontend.other_clips import call_other_clips, has_other_clips
from radam_codegen.frontend.selection import (
    check_tensors,
    checked_no_grad_set,
    checked_parameters,
    select_parameters,
)
from radam_codegen.ir.plan import UpdatePlan
from radam_codegen.program import checkpoint, kernels
from radam_codegen.program.append_update import append_update
from radam_codegen.program.checkpoint_copy import copied_state, restore_state
from radam_codegen.program.dygraph import DygraphStepper
from radam_codegen.program.executor_hook import install_executor_hook
from radam_codegen.program.gpu import check_gpu, gpus_here, language_of
from radam_codegen.program.native import native_rules
from radam_codegen.program.shared_parameters import merge_shared
from radam_codegen.program.state import StateMaker
from radam_codegen.program.step_places import StepPlaces
from radam_codegen.program.transaction import building, in_current_block, restored_on_failure

__all__ = ["RAdam"]

_NO_TRACING = (
    "RAdam cannot be traced by paddle.jit.to_static, as the kernel is called outside of Paddle's "
    "operators: trace the forward pass alone and call step() in dynamic graph, or build a static "
    "program"
)
_TARGETS = ("auto", "c", "cuda", "native")
_LISTED = ", ".join(_TARGETS)


class RAdam(paddle.optimizer.RAdam):  # type: ignore[misc]
    r"""RAdam as one fused, generated kernel per parameter group.

    Takes what :class:`paddle.optimizer.RAdam` takes, and means the same by it:

    .. math::
        m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t \\
        v_t &= \beta_2 v_{t-1} + (1 - \beta_2) g_t^2 \\
        \rho_t &= \rho_\infty - 2 t \beta_2^t / (1 - \beta_2^t),
            \quad \rho_\infty = 2 / (1 - \beta_2) - 1 \\
        \theta_t &= \theta_{t-1} - \gamma \, \frac{m_t}{1 - \beta_1^t} \cdot
            \begin{cases} r_t \sqrt{1 - \beta_2^t} / (\sqrt{v_t} + \epsilon)
            & \rho_t > 5 \\ 1 & \text{otherwise} \end{cases} \\
        r_t &= \sqrt{\frac{(\rho_t - 4)(\rho_t - 2) \rho_\infty}
            {(\rho_\infty - 4)(\rho_\infty - 2) \rho_t}}

    The gradient is clipped first; then the decay term is added to it. Formula: Liu et al., "On the
    Variance of the Adaptive Learning Rate and Beyond", https://arxiv.org/abs/1908.03265, algorithm
    2, with threshold and epsilon as Paddle documents them.

    Args:
        learning_rate: a float, or a scheduler.
        beta1: decay rate of the first moment, in [0, 1).
        beta2: decay rate of the second moment, in [0, 1).
        epsilon: added to the root of the second moment, not negative.
        parameters: parameters (or, in static mode, their names), or a list of groups, each a dict
            with ``params`` and any of ``learning_rate`` (a factor), ``weight_decay``, ``beta1``,
            ``beta2``, ``epsilon``, ``grad_clip``. None: all trainable parameters of the program.
        weight_decay: coefficient of an L2 term, or ``paddle.regularizer.L1Decay`` / ``L2Decay``. A
            parameter's own regularizer comes before it.
        grad_clip: ``paddle.nn.ClipGradByGlobalNorm``, ``ClipGradByNorm`` or ``ClipGradByValue``.
        name: prefix of the names of the optimizer's state.
        multi_precision: keep float32 master weights of bfloat16 and float16 parameters.
        decoupled_weight_decay: multiply parameters by ``1 - learning_rate * weight_decay`` before
            the update, instead of adding a term to the gradient, as ``torch.optim.RAdam`` does
            under the same name. A parameter's own regularizer is added to its gradient as ever.
        target: ``"c"`` (compiled for this CPU), ``"cuda"`` (programs can be built and sources
            rendered anywhere; to run they need a GPU), or ``"native"``: Paddle's own operators
            instead of a generated kernel, in this optimizer from now on. ``"auto"`` is ``"cuda"``
            for a program that is built while ``paddle.device.get_device()`` is a GPU, else ``"c"``.
            Mode ``off``, as it is set when the optimizer is constructed, makes every target
            ``"native"``.

    Raises:
        ArgumentError: a number is out of range, a group lacks ``params``, or a parameter stands in
            two groups. It is a ``ValueError``.
        ArgumentTypeError: an argument has the wrong type. It is a ``TypeError``.
        UnsupportedError: Paddle's own operators are wanted and cannot do what the arguments say.
        ConfigError: an environment variable holds something that cannot be used.

    Examples:
        >>> import numpy as np
        >>> import paddle
        >>> import radam_codegen as rc
        >>> paddle.enable_static()
        >>> main, startup = paddle.static.Program(), paddle.static.Program()
        >>> with paddle.static.program_guard(main, startup):
        ...     x = paddle.static.data("x", [4, 8], "float32")
        ...     loss = paddle.mean(paddle.nn.Linear(8, 2)(x) ** 2)
        ...     optimize_ops, params_grads = rc.RAdam(learning_rate=0.01).minimize(loss)
        >>> exe = paddle.static.Executor(paddle.CPUPlace())
        >>> _ = exe.run(startup)
        >>> feed = {"x": np.ones([4, 8], "float32")}
        >>> fetches = [loss, (optimize_ops, params_grads)]
        >>> first = exe.run(main, feed=feed, fetch_list=fetches)[0]
        >>> for _ in range(20):
        ...     last = exe.run(main, feed=feed, fetch_list=fetches)[0]
        >>> bool(last < first)
        True
    """

    _moment1_acc_str = "moment1"
    _moment2_acc_str = "moment2"

    def __init__(
        self,
        learning_rate: float | LRScheduler = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        parameters: Sequence[Any] | None = None,
        weight_decay: Any = None,
        grad_clip: Any = None,
        name: str | None = None,
        *,
        multi_precision: bool = False,
        decoupled_weight_decay: bool = False,
        target: str = "auto",
    ) -> None:
        check_learning_rate(learning_rate)
        listed = check_parameters(parameters)
        defaults = GroupOptions(
            beta1=check_beta("beta1", beta1),
            beta2=check_beta("beta2", beta2),
            epsilon=check_epsilon("epsilon", epsilon),
            grad_clip=check_clip(grad_clip),
            weight_decay=check_decay("weight_decay", weight_decay),
            decoupled=check_decoupled(decoupled_weight_decay, weight_decay, listed),
        )
        if target not in _TARGETS:
            raise ArgumentError(f"there is no target {target!r}; there are {_LISTED}")
        self._target, self._language = target, "c"
        self._current = CurrentGroups(listed, defaults)
        # The base class reads types from the parameters, which names have none of.
        members = self._current.members()
        named = members is not None and any(isinstance(each, str) for each in members)
        check_flag("multi_precision", multi_precision)
        common = {
            "learning_rate": learning_rate,
            "weight_decay": defaults.weight_decay,
            "grad_clip": defaults.grad_clip,
            "name": name,
        }
        self._native = native_rules(target, current())
        if self._native is not None:
            grouped = self._current.grouped
            self._native.check_arguments(
                self._current.given_options(), multi_precision=multi_precision, grouped=grouped
            )
            super().__init__(
                **common,
                parameters=None if named else listed if grouped else members,
                beta1=defaults.beta1,
                beta2=defaults.beta2,
                epsilon=defaults.epsilon,
            )
            if named:
                self._parameter_list = members
        else:
            Optimizer.__init__(self, **common, parameters=None if named else members)
            self._parameter_list = members
            self._current.attach(self)
            self._step_places = StepPlaces(self._groups.sections or ())
            self.type = "radam_codegen"
        self._multi_precision = multi_precision
        self._plan: UpdatePlan | None = None
        self._state = StateMaker(self)
        self._stepper = DygraphStepper()

    @property
    def _groups(self) -> Groups:
        """The parameter groups as this optimizer's attributes say them now."""
        return self._current.read(self)

    def _add_param_group(self, param_group: dict[str, Any]) -> None:
        super()._add_param_group(param_group)
        if self._native is None:  # clear_grad() goes by the list
            self._parameter_list = [*(self._parameter_list or ()), *param_group["params"]]

    @property
    def plan(self) -> UpdatePlan:
        """What the last ``minimize``, ``apply_gradients`` or ``step`` planned.

        Raises:
            ProgramError: none of them has been called, or Paddle's own operators are used.
        """
        if self._native is not None:
            raise self._native.no_plan()
        if self._plan is None:
            raise ProgramError("there is no plan yet: call minimize() or step() first")
        return self._plan

    def sources(self) -> list[KernelSource]:
        """Return the source of each of the plan's kernels: none where Paddle's operators are used.

        ``path`` is where it lies once the startup program has run, None before.
        """
        if self._native is not None:
            return []
        structures = dict.fromkeys(group.structure for group in self.plan.groups)
        return [kernels.source_of(structure, self._language) for structure in structures]

    def minimize(
        self,
        loss: Any,
        startup_program: Any = None,
        parameters: Sequence[Any] | None = None,
        no_grad_set: Any = None,
    ) -> tuple[list[Any], list[tuple[Any, Any]]]:
        """Append the backward pass and the update to the program that ``loss`` is in.

        In dynamic graph, where ``loss.backward()`` has been called, update the parameters instead.

        Args:
            loss: one element, float.
            startup_program: where state is initialized and kernels are built; None: the default
                startup program.
            parameters: tensors or names to update; None: those given to the optimizer, or all.
            no_grad_set: tensors or names that get no gradient.

        Returns:
            ``(optimize_ops, params_grads)``, which ``Executor.run`` takes in ``fetch_list``: it
            then runs only what these, and the other fetches, need. In dynamic graph there are no
            operators.

        Raises:
            ArgumentTypeError: ``parameters`` or ``no_grad_set`` holds something else.
            ProgramError: a name is not one of the program, or a tensor belongs to another program.
            UnsupportedError: a gradient is sparse, or a type has no kernel; or this is called
                inside of ``paddle.jit.to_static``.

        Both programs are as before when this raises.
        """
        parameters = checked_parameters(parameters)
        no_grad_set = checked_no_grad_set(no_grad_set)
        traced, dynamic = in_to_static_mode(), framework.in_dygraph_mode()
        if self._native is not None and (traced or dynamic):
            with self._native.explained():
                result: tuple[list[Any], list[tuple[Any, Any]]] = super().minimize(
                    loss, startup_program, parameters, no_grad_set
                )
            return result
        if traced:
            raise UnsupportedError(_NO_TRACING)
        if dynamic:
            check_tensors(parameters)
            params_grads = self.backward(loss, parameters=parameters, no_grad_set=no_grad_set)
            return self.apply_gradients(params_grads), params_grads
        program = loss.block.program
        startup = startup_program or paddle.static.default_startup_program()
        chosen = select_parameters(loss, parameters or self._parameter_list, no_grad_set)
        if not chosen.parameters:
            return [], []
        memory = (self._accumulators, self._learning_rate_map)
        undone = restored_on_failure(program, startup, mappings=memory)
        with undone, building(program, startup):
            params_grads = self.backward(
                in_current_block(loss),
                startup,
                parameters=chosen.parameters,
                no_grad_set=chosen.no_grad_set,
            )
            if self._native is not None:
                return self._apply_optimize(loss, startup, params_grads), params_grads
            if framework.in_pir_mode():
                params_grads = merge_shared(params_grads)
            optimize_ops = self.apply_gradients(params_grads)
        return optimize_ops, params_grads

    def apply_gradients(self, params_grads: Sequence[tuple[Any, Any]]) -> list[Any]:
        """Append the update by given gradients to the current program; in dynamic graph, do it.

        Args:
            params_grads: pairs of parameter and gradient; pairs without a gradient are left out.

        Returns:
            The operators that do the update, one per group; none in dynamic graph.
        """
        if self._native is not None:
            native = super().apply_gradients
            return self._natively(params_grads, lambda: native(params_grads))
        if framework.in_dygraph_mode():
            params = [param for param, _ in params_grads]
            self._step(self._groups, params, [grad for _, grad in params_grads])
            return []
        if framework.in_pir_mode():
            params_grads = merge_shared(params_grads)
        self._language = language_of(self._target, gpus_here())
        update = append_update(self, self._groups, self._state, params_grads, self._language)
        self._plan = update.plan
        return list(update.operations)

    def step(self) -> None:
        """Update every parameter that has a gradient. Dynamic graph only.

        Raises:
            UnsupportedError: a gradient is sparse or a type has no kernel; nothing was updated.
                Also inside of ``paddle.jit.to_static``.
        """
        traced = in_to_static_mode()
        if traced and self._native is None:
            raise UnsupportedError(_NO_TRACING)
        if not framework.in_dygraph_mode() and not traced:
            raise ProgramError(
                "step() is for dynamic graph; in static mode call minimize() and run the program"
            )
        if self._native is not None:
            with self._native.explained():
                super().step()
            return
        groups = self._groups
        params = groups.members or ()
        self._step(groups, params, _gradients(params))

    def _step(self, groups: Groups, params: Sequence[Any], grads: Sequence[Any]) -> None:
        # By type, as a comparison of a tensor with None would compute one.
        if type(None) in set(map(type, grads)) or any(map(_is_frozen, params)):
            wanted = [g is not None and not p.stop_gradient for p, g in zip(params, grads)]
            params, grads = list(compress(params, wanted)), list(compress(grads, wanted))
        if not params:
            return
        if self._target == "cuda":
            check_gpu()
            raise UnsupportedError("in dynamic graph, target='cuda' is not there; use target='c'")
        if self._state.missing:
            self._state.check_loaded(params)
        if has_other_clips(groups):
            with paddle.no_grad():
                groups, pairs = call_other_clips(groups, list(zip(params, grads)))
            params, grads = [param for param, _ in pairs], [grad for _, grad in pairs]
        found_inf = self._get_auxiliary_var("found_inf")
        self._language = "c"
        self._plan = self._stepper.step(
            params,
            grads,
            groups,
            self._state.of_parameter,
            float(self.get_lr()),
            multi_precision=self._multi_precision,
            found_inf=None if found_inf is None else bool(found_inf),
        )

    def state_dict(self, *, scope: Any = None) -> dict[str, Any]:
        """Return the optimizer's state, for ``paddle.save`` and :meth:`set_state_dict`.

        Args:
            scope: in static mode, where the program's variables are; None: the global scope.

        Returns:
            By name, the very tensors, which go on changing: moments (``<param>_moment1_0``,
            ``<param>_moment2_0``), step counts (``<param>_step_0``, int64, shape [1]),
            ``master_weights`` by parameter, and ``LR_Scheduler`` where there is a scheduler.
            Without the latter it is empty before the first step, or before ``minimize``.

        Raises:
            ProgramError: the startup program has not run in this scope.
        """
        if self._native is not None:
            return dict(super().state_dict())
        return checkpoint.state_dict(self, scope)

    def set_state_dict(self, state_dict: Mapping[str, Any], *, scope: Any = None) -> None:
        """Go on from a checkpoint of this class or of ``paddle.optimizer.RAdam``.

        Names count by parameter and kind; it does not matter how parameters are grouped, nor
        whether a program or dynamic graph made it. A checkpoint of the native class has no step
        count: it is recovered from the powers that it has, exactly as long as these are normal
        numbers (with beta2 = 0.999, for 87,293 steps).

        Args:
            state_dict: tensors or arrays by name, such as ``paddle.load`` returns.
            scope: in static mode, where the program's variables are; None: the global scope.

        Raises:
            CheckpointError: it does not fit; the message lists all that doesn't. The state is as
                it was.
            ProgramError: in static mode, ``minimize`` has not been called.
        """
        if self._native is not None:
            self._native.check_checkpoint(state_dict)
            with self._native.explained():
                super().set_state_dict(state_dict)
            return
        checkpoint.set_state_dict(self, state_dict, scope)
        self._stepper = DygraphStepper()

    load_state_dict = set_state_dict

    def native_state_dict(self, *, scope: Any = None) -> dict[str, Any]:
        """Return the state as ``paddle.optimizer.RAdam`` has it, a copy.

        Its ``set_state_dict`` takes it in dynamic graph, and ``set_state_dict`` of a program that
        holds it in static mode. Names end in ``_0``, as in a process in which the native optimizer
        is the parameters' first; in this one, put ``paddle.utils.unique_name.guard()`` around it.

        Args:
            scope: in static mode, where the program's variables are; None: the global scope.

        Raises:
            ProgramError: the startup program has not run in this scope.
        """
        if self._native is not None:
            return dict(super().state_dict())
        return checkpoint.native_state_dict(self, scope)

    def __getstate__(self) -> dict[str, Any]:
        return copied_state(self) if self._native is None else dict(vars(self))

    def __setstate__(self, state: dict[str, Any]) -> None:
        if state["_native"] is None:
            restore_state(self, state)
        else:
            self.__dict__.update(state)

    def _apply_optimize(
        self,
        loss: Any,
        startup_program: Any,
        params_grads: Any,
        param_group_idx: int = 0,
    ) -> list[Any]:
        native = super()._apply_optimize
        if framework.in_dygraph_mode():
            if self._native is not None:
                return self._natively(
                    params_grads,
                    lambda: native(loss, startup_program, params_grads, param_group_idx),
                )
            return self.apply_gradients(params_grads)
        program = loss.block.program
        startup = startup_program or paddle.static.default_startup_program()
        with building(program, startup):
            if self._native is not None:
                return self._natively(params_grads, lambda: native(loss, startup, params_grads))
            return self.apply_gradients(params_grads)

    def _natively(self, params_grads: Any, apply: Callable[[], list[Any]]) -> list[Any]:
        """Have Paddle's class apply gradients."""
        assert self._native is not None
        self._native.check_gradients(params_grads)
        if not framework.in_dygraph_mode():
            install_executor_hook()
        with self._native.explained():
            return apply()


_is_frozen = attrgetter("stop_gradient")


def _gradients(params: Sequence[Any]) -> list[Any]:
    """Gradients of parameters; what mixed precision keeps as ``main_grad`` comes first."""
    grads = core.eager.get_all_grads(list(params))
    main_grads = [getattr(each, "main_grad", None) for each in params]
    if set(map(type, main_grads)) <= {type(None)}:
        return list(grads)
    return [grad if main is None else main for grad, main in zip(grads, main_grads)]
