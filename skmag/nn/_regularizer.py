"""The magnitude of a network's weights on the real line, as a term of a loss or as a hook."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from numbers import Integral, Real
from typing import Any

import torch
from torch.utils.hooks import RemovableHandle

from skmag.nn._line_magnitude import check_positive, line_magnitude

NamedTensors = torch.nn.Module | Mapping[str, torch.Tensor] | Iterable[tuple[str, torch.Tensor]]


class MagnitudeRegularizer(torch.nn.Module):
    """Penalty on the magnitude of a network's weights, all of them as one set of numbers.

    Parameters
    ----------
    strength : float, default=1.0
        What multiplies the magnitude; lambda in the paper. Not negative, and may be changed between
        steps.
    t : float, default=1.0
        Positive scale that multiplies the distances between weights.
    parameters : list of str or None, default=None
        Patterns as in a shell, such as ``["*.weight"]``, for the names that
        :meth:`torch.nn.Module.named_parameters` gives. None takes all. Parameters that do not
        require a gradient are always left out.
    n_sampled : int or None, default=None
        How many weights to draw at random, with replacement; the smallest and the largest weight
        are added to them. The paper draws 1,000. The magnitude of the sample is at most that of all
        weights. None takes them all.
    generator : torch.Generator or None, default=None
        Source of these draws; None is torch's global one.

    See Also
    --------
    line_magnitude : The magnitude of any numbers.

    Notes
    -----
    Between weights that are close, ``tanh(t * gap / 2)`` is nearly ``t * gap / 2``, and these add
    up to the range of the weights. At ``t=1``, where thousands of weights lie within one unit, the
    magnitude is therefore ``1 + t * (max - min) / 2`` to some digits: the largest and the smallest
    weight are pushed inwards with ``strength * t / 2`` each, and the others feel almost nothing.
    For all weights to feel it, the gaps have to be as large as 1/t. Adam divides a gradient by its
    size, so that under it `strength` decides less than under SGD.

    The scales of normalization layers begin at one and are then the largest of all, so that it is
    mostly them that are pushed. Where there are such layers, name the others as `parameters`.

    The sample changes the value slightly and the gradient of inner weights much: a weight that was
    not drawn has none, and the gaps beside one that was are larger than among all weights.

    Names and tensors for :func:`torch.func.functional_call` are taken, but the transforms of
    :mod:`torch.func` (``grad``, ``vmap`` and the like) are not supported.

    References
    ----------
    R. Andreeva, J. Ward, P. Skraba, J. Gao, R. Sarkar, "Approximating metric magnitude of point
    sets", section 4.1.

    Examples
    --------
    >>> import torch
    >>> from skmag.nn import MagnitudeRegularizer
    >>> _ = torch.manual_seed(0)
    >>> network = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
    >>> regularizer = MagnitudeRegularizer(0.1, parameters=["*.weight"])
    >>> x, y = torch.randn(16, 4), torch.randn(16, 1)
    >>> loss = torch.nn.functional.mse_loss(network(x), y) + regularizer(network)
    >>> loss.backward()
    >>> round(regularizer.magnitude(network), 3)
    1.465
    """

    def __init__(
        self,
        strength: float = 1.0,
        *,
        t: float = 1.0,
        parameters: Sequence[str] | None = None,
        n_sampled: int | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.strength = _check_strength(strength)
        self.t = check_positive(t, "t")
        if isinstance(parameters, str):
            raise TypeError(f"parameters={parameters!r} must be a list of patterns or None")
        self.parameter_patterns = None if parameters is None else tuple(parameters)
        self.n_sampled = None if n_sampled is None else _check_count(n_sampled)
        if not isinstance(generator, torch.Generator | None):
            raise TypeError(f"generator={generator!r} must be a torch.Generator or None")
        self.generator = generator

    def forward(self, module: NamedTensors) -> torch.Tensor:
        """Return the penalty, to be added to a loss.

        Parameters
        ----------
        module : torch.nn.Module, mapping or iterable of (str, tensor)
            The network; or names and tensors, as :func:`torch.func.functional_call` takes them.
            All of these that `parameters` names are taken, whether they require a gradient or not.

        Returns
        -------
        tensor of shape ()
            ``strength`` times the magnitude.

        Raises
        ------
        TypeError
            If `module` is none of these, or if a selected parameter is not of a floating-point
            type.
        ValueError
            If there is nothing to be penalized, if a pattern has no parameter, if weights are NaN
            or infinite, or if `strength` was set to what it cannot be.
        """
        return _check_strength(self.strength) * _magnitude(
            self._selected(module), self.t, self._drawn
        )

    def magnitude(self, module: NamedTensors) -> float:
        """Return the magnitude of all selected weights, without `strength` and without a sample.

        Parameters
        ----------
        module : torch.nn.Module, mapping or iterable of (str, tensor)
            As for :meth:`forward`.

        Returns
        -------
        float
            Magnitude.

        Raises
        ------
        TypeError, ValueError
            As for :meth:`forward`.
        """
        with torch.no_grad():
            return float(_magnitude(self._selected(module), self.t))

    def attach(self, optimizer: torch.optim.Optimizer, module: torch.nn.Module) -> RemovableHandle:
        """Have an optimizer add the penalty's gradient before each of its steps.

        This is the same as to add the penalty to the loss, but training code stays as it is.

        Parameters
        ----------
        optimizer : torch.optim.Optimizer
            Takes the steps. Only parameters that it holds get a gradient.
        module : torch.nn.Module
            The network.

        Returns
        -------
        torch.utils.hooks.RemovableHandle
            Its ``remove()`` ends it.

        Raises
        ------
        TypeError
            If an argument is of another kind; or as for :meth:`forward`.
        ValueError
            As for :meth:`forward`; or if the optimizer holds none of the selected parameters, which
            every step checks anew.

        Notes
        -----
        The gradient is added after whatever was done to ``.grad`` before, such as clipping. If the
        optimizer is given a closure, as LBFGS has to be, every call of the closure is followed by
        the penalty, which is also added to the loss that it returns.

        A copied optimizer, or one that was saved and loaded, has no hooks: attach again.
        """
        if not isinstance(optimizer, torch.optim.Optimizer):
            kind = type(optimizer).__name__
            raise TypeError(f"optimizer must be a torch.optim.Optimizer, got {kind}")
        if not isinstance(module, torch.nn.Module):
            raise TypeError(f"module must be a torch.nn.Module, got {type(module).__name__}")
        self._held(optimizer, module)

        def with_penalty(closure: Callable[[], Any]) -> Callable[[], Any]:
            def penalized() -> Any:
                loss = closure()
                penalty = self._add_gradient(optimizer, module)
                return None if loss is None else loss + penalty

            return penalized

        def before_step(
            _: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
            # The optimizer itself is the first of its step's arguments.
            closure = args[1] if len(args) > 1 else kwargs.get("closure")
            if closure is None:
                self._add_gradient(optimizer, module)
                return None
            if len(args) > 1:
                return (args[0], with_penalty(closure), *args[2:]), kwargs
            return args, {**kwargs, "closure": with_penalty(closure)}

        return optimizer.register_step_pre_hook(before_step)

    def extra_repr(self) -> str:
        """Return the arguments, for the representation of modules.

        Returns
        -------
        str
            Arguments that are not at their defaults, and the strength.
        """
        shown = [f"strength={self.strength}"]
        if self.t != 1.0:
            shown.append(f"t={self.t}")
        if self.parameter_patterns is not None:
            shown.append(f"parameters={list(self.parameter_patterns)}")
        if self.n_sampled is not None:
            shown.append(f"n_sampled={self.n_sampled}")
        return ", ".join(shown)

    def _selected(self, module: NamedTensors) -> dict[str, torch.Tensor]:
        """Named tensors that are to be penalized."""
        if isinstance(module, torch.nn.Module):
            named = dict[str, torch.Tensor](
                (name, p) for name, p in module.named_parameters() if p.requires_grad
            )
        else:
            named = _named_tensors(module)
        if self.parameter_patterns is not None:
            for pattern in self.parameter_patterns:
                if not any(fnmatchcase(name, pattern) for name in named):
                    raise ValueError(
                        f"parameters has the pattern {pattern!r}, which no parameter that requires "
                        f"a gradient matches; there are {_some(named)}"
                    )
            named = {
                name: tensor
                for name, tensor in named.items()
                if any(fnmatchcase(name, pattern) for pattern in self.parameter_patterns)
            }
        if not any(tensor.numel() for tensor in named.values()):
            raise ValueError("module has no parameter that requires a gradient and can be selected")
        for name, tensor in named.items():
            if not tensor.is_floating_point():
                raise TypeError(
                    f"{name} must be a tensor of a floating-point type, got {tensor.dtype}; name "
                    "the others as parameters="
                )
        return named

    def _held(
        self, optimizer: torch.optim.Optimizer, module: torch.nn.Module
    ) -> list[torch.Tensor]:
        """Selected parameters that an optimizer changes, of which there must be some."""
        own = {id(p) for group in optimizer.param_groups for p in group["params"]}
        held = [p for p in self._selected(module).values() if id(p) in own]
        if not held:
            raise ValueError(
                "optimizer holds none of the parameters that are to be penalized; pass the "
                "optimizer of this module, or other names as parameters="
            )
        return held

    def _add_gradient(
        self, optimizer: torch.optim.Optimizer, module: torch.nn.Module
    ) -> torch.Tensor:
        """Add the penalty's gradient to those that an optimizer will use; return the penalty."""
        held = self._held(optimizer, module)
        with torch.enable_grad():
            penalty = self(module)
        # Not backward(): it would set off what else waits for gradients of the loss.
        gradients = torch.autograd.grad(penalty, held)
        # An optimizer that undoes a loss scaler's factor itself would undo it here, too.
        scale = getattr(optimizer, "grad_scale", None)
        for parameter, gradient in zip(held, gradients, strict=True):
            if scale is not None:
                gradient = gradient * scale.to(gradient.device)
            if parameter.grad is None:
                parameter.grad = gradient.clone()
            elif parameter.grad.layout == torch.strided:
                parameter.grad.add_(gradient)
            else:
                # A dense tensor can be added to a sparse one in this order only.
                parameter.grad = gradient + parameter.grad
        return penalty.detach()

    def _drawn(self, values: torch.Tensor) -> torch.Tensor:
        """The smallest and the largest of `values`, and some others drawn at random; or all."""
        if self.n_sampled is None or self.n_sampled + 2 >= len(values):
            return values
        place = values.device if self.generator is None else self.generator.device
        drawn = torch.randint(
            len(values), (self.n_sampled,), generator=self.generator, device=place
        )
        ends = torch.stack([values.argmin(), values.argmax()])
        return values[torch.cat([ends, drawn.to(values.device)])]


def _magnitude(
    selected: Mapping[str, torch.Tensor],
    t: float,
    drawn: Callable[[torch.Tensor], torch.Tensor] = lambda values: values,
) -> torch.Tensor:
    """Magnitude of what is drawn of the entries of some tensors, as one set."""
    parts = [tensor.reshape(-1) for tensor in selected.values()]
    values = torch.cat([part.to(parts[0].device) for part in parts])
    try:
        return line_magnitude(drawn(values), t)
    except ValueError as error:
        for name, tensor in selected.items():
            if not tensor.isfinite().all():
                raise ValueError(
                    f"parameter {name!r} contains NaN or infinite numbers; an earlier step has "
                    "diverged, or a smaller learning rate is needed"
                ) from error
        raise


def _named_tensors(given: Any) -> dict[str, torch.Tensor]:
    """Names and tensors from what is no module; a tensor alone would pass for pairs of rows."""
    pairs = given.items() if isinstance(given, Mapping) else given
    if isinstance(pairs, Iterable) and not isinstance(pairs, torch.Tensor):
        pairs = list(pairs)
        if all(_is_named_tensor(pair) for pair in pairs):
            return dict(pairs)
    raise TypeError(
        "module must be a torch.nn.Module, or names with tensors; pass the module itself, or its "
        "named_parameters() instead of parameters()"
    )


def _is_named_tensor(pair: Any) -> bool:
    return (
        isinstance(pair, tuple)
        and len(pair) == 2
        and isinstance(pair[0], str)
        and isinstance(pair[1], torch.Tensor)
    )


def _some(named: Mapping[str, Any]) -> str:
    """Some names for a message."""
    names = ", ".join(map(repr, list(named)[:10]))
    return f"{names}, and {len(named) - 10} more" if len(named) > 10 else names or "none"


def _check_strength(strength: Any) -> float:
    if not isinstance(strength, Real) or isinstance(strength, bool):
        raise TypeError(f"strength={strength!r} must be a number")
    value = float(strength)
    if not 0 <= value < math.inf:
        raise ValueError(f"strength={strength!r} must be finite and not negative")
    return value


def _check_count(n_sampled: Any) -> int:
    if not isinstance(n_sampled, Integral) or isinstance(n_sampled, bool) or n_sampled < 1:
        raise ValueError(f"n_sampled={n_sampled!r} must be a positive integer or None")
    return int(n_sampled)
