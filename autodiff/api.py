"""What users apply to their functions: `compile` and derivatives.

A derivative of a function runs it on tensors, in whatever is going on already: inside `compile`, or another derivative,
the tensors are part of the same network and results are tensors.  Only the outermost one, called with arrays, computes
its results and gives NumPy arrays.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, overload

import numpy as np

from autodiff import ir, ops, state, transforms
from autodiff.compiled import Compiled
from autodiff.derivative import Subject, evaluated, has_tensor, tensors
from autodiff.pytree import flatten, map_leaves
from autodiff.signature import Parameters
from autodiff.tensor import Tensor

Function = Callable[..., Any]
Argnums = int | Sequence[int]


@overload
def compile(  # noqa: A001
    function: Function, *, static_argnums: Argnums = ..., donate_argnums: Argnums = ...
) -> Compiled: ...
@overload
def compile(  # noqa: A001
    function: None = ..., *, static_argnums: Argnums = ..., donate_argnums: Argnums = ...
) -> Callable[[Function], Compiled]: ...
def compile(  # noqa: A001
    function: Function | None = None, *, static_argnums: Argnums = (), donate_argnums: Argnums = ()
) -> Compiled | Callable[[Function], Compiled]:
    """Compile a NumPy function: traced once for each signature, after that every call is one call into C.

    Arrays, NumPy scalars and Python floats in the arguments (in tuples, lists, dicts, dataclasses) are traced: the
    function sees tensors of their shapes and dtypes, which have no values yet.  int, bool, str and other hashables are
    static: for each of their values the function is compiled anew.  Results are fresh NumPy arrays and scalars.

    Compile outermost: `compile(grad(f))` is fast.  In a function that is being traced or differentiated, and with
    tensors for arguments, a compiled function is simply called.

    Args:
        function: takes and returns trees of arrays; also as a decorator, with or without options.
        static_argnums: positions of arguments that are static whatever their type; they must be hashable.
        donate_argnums: positions of arguments whose arrays may be overwritten: results of equal shape and dtype are
            these arrays.  They must be writable, contiguous and share no memory with other arguments; after an error
            their contents are unspecified.

    Raises:
        TypeError: in a call, for arguments and results that are neither arrays nor hashable.
        RuntimeError: if the function draws from NumPy's global generator, which would freeze the numbers.

    >>> import numpy as np
    >>> import autodiff as ad
    >>> @ad.compile
    ... def mean_of_squares(x):
    ...     return np.mean(x * x)
    >>> mean_of_squares(np.array([1.0, 2.0, 3.0]))
    np.float64(4.666666666666667)
    >>> mean_of_squares.lower(np.ones(3)).graph.inputs[0].aval.shape
    (3,)
    """
    static, donated = _positions("static_argnums", static_argnums), _positions("donate_argnums", donate_argnums)
    if function is None:
        return functools.partial(Compiled, static_argnums=static, donate_argnums=donated)
    return Compiled(function, static, donated)


def grad(function: Function, argnums: Argnums = 0, has_aux: bool = False) -> Function:
    """The gradient of a scalar function.

    Args:
        function: returns a floating scalar, or with `has_aux` a pair of it and anything else.
        argnums: which argument, or arguments, to differentiate by: trees of floating-point arrays and numbers.
        has_aux: whether the gradient comes in a pair with the function's other result.

    Returns:
        A function of the same arguments: a tree like the argument, each array with its shape and dtype; a tuple of
        trees for a sequence of argnums.

    Raises:
        TypeError: in a call, for arguments that are not floating and results that are no floating scalar.

    >>> import numpy as np
    >>> import autodiff as ad
    >>> ad.grad(lambda x: np.sum(x**3))(np.array([1.0, 2.0]))
    array([ 3., 12.])
    """
    both = _value_and_grad("grad", function, argnums, has_aux)

    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, result = both(args, kwargs)
        return (result, value[1]) if has_aux else result

    return _named("grad", function, gradient)


def value_and_grad(function: Function, argnums: Argnums = 0, has_aux: bool = False) -> Function:
    """A scalar function's value together with its gradient: a pair; see `grad`.

    With `has_aux` the value is itself the pair that the function returns.

    >>> import autodiff as ad
    >>> ad.value_and_grad(lambda x: x**3)(2.0)
    (np.float64(8.0), np.float64(12.0))
    """
    both = _value_and_grad("value_and_grad", function, argnums, has_aux)
    return _named("value_and_grad", function, lambda *args, **kwargs: both(args, kwargs))


def jvp(function: Function, primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """A function's result and how it changes when the arguments change by `tangents` (forward mode).

    Args:
        function: of trees of arrays; returns one.
        primals: its arguments, floating.
        tangents: trees like the primals, with arrays of the same shapes and dtypes; None in place of an array is zero.

    Returns:
        The result and its tangent, two trees of one structure.

    Raises:
        TypeError: if the tangents' structure, a shape or a dtype is not the primals'.

    >>> import autodiff as ad
    >>> ad.jvp(lambda x, y: x * y, (2.0, 3.0), (1.0, 10.0))
    (np.float64(6.0), np.float64(23.0))
    """
    subject = Subject("jvp", function)
    if not isinstance(primals, (tuple, list)) or not isinstance(tangents, (tuple, list)):
        raise subject.error("primals and tangents are tuples, one item an argument")
    call = subject.call(range(len(primals)), primals, {}, also=tangents)
    x_dots = subject.directions("tangent", flatten(tuple(primals))[1], tuple(tangents), call.inputs)
    ys, structure = subject.outputs(call.result)
    y_dots = transforms.pushforward(ys, call.inputs, x_dots)
    dots = [ir.zeros(y.aval) if t is None else t for y, t in zip(ys, y_dots, strict=True)]
    both: tuple[Any, Any] = call.finish((structure.unflatten(tensors(ys)), structure.unflatten(tensors(dots))))
    return both


def vjp(function: Function, *primals: Any, has_aux: bool = False) -> tuple[Any, ...]:
    """A function's result, and a function that pulls cotangents of the result back to the arguments (reverse mode).

    Args:
        function: of trees of arrays; returns one, or with `has_aux` a pair of it and anything else.
        primals: its arguments, floating.
        has_aux: whether the other result is returned as a third item.

    Returns:
        The result, and a function: a tree like the result (None in place of an array is zero) -> a tuple of trees like
        the primals.

    Raises:
        TypeError: if the cotangents' structure, a shape or a dtype is not the result's.

    >>> import numpy as np
    >>> import autodiff as ad
    >>> y, pull = ad.vjp(lambda x: x * x, np.array([1.0, 2.0]))
    >>> pull(np.array([1.0, 10.0]))
    (array([ 2., 40.]),)
    """
    subject = Subject("vjp", function)
    call = subject.call(range(len(primals)), primals, {})
    out, aux = subject.pair(call.result) if has_aux else (call.result, None)
    ys, structure = subject.outputs(out)

    def pull(cotangents: Any) -> tuple[Any, ...]:
        outermost = call.outermost and not state.active() and not has_tensor(cotangents)
        y_bars = subject.directions("cotangent", structure, cotangents, ys)
        x_bars = call.like_arguments(transforms.pullback(ys, call.inputs, y_bars))
        return evaluated(x_bars) if outermost else x_bars

    y, aux = call.finish((structure.unflatten(tensors(ys)), aux))
    return (y, pull, aux) if has_aux else (y, pull)


def stop_gradient(tree: Any) -> Any:
    """The same values, through which no derivative passes; arrays and other leaves stay as they are.

    >>> import autodiff as ad
    >>> ad.grad(lambda x: x * ad.stop_gradient(x))(3.0)
    np.float64(3.0)
    """
    return map_leaves(lambda x: Tensor._of(ops.logic.stop_gradient(x._value)) if isinstance(x, Tensor) else x, tree)


def _value_and_grad(
    what: str, function: Function, argnums: Argnums, has_aux: bool
) -> Callable[[tuple[Any, ...], dict[str, Any]], tuple[Any, Any]]:
    subject = Subject(what, function)
    positions = _positions("argnums", argnums)

    def both(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        if kwargs:
            args, kwargs = subject.parameters.normalise(args, kwargs)
        n = len(args)
        for i in positions:
            if not -n <= i < n:
                raise subject.error(f"argnums has {i}, but the call has {n} arguments")
        if len({i % n for i in positions}) < len(positions):
            raise subject.error(f"argnums {tuple(positions)} has an argument twice")
        call = subject.call([i % n for i in positions], args, kwargs)
        out, aux = subject.pair(call.result) if has_aux else (call.result, None)
        y = subject.scalar(out)
        gradients = call.like_arguments(transforms.pullback([y], call.inputs, [ir.full(1, (), y.dtype)]))
        value: Any = Tensor._of(y)
        if has_aux:
            value = (value, aux)
        finished: tuple[Any, Any] = call.finish((value, gradients[0] if _is_position(argnums) else gradients))
        return finished

    return both


def _positions(what: str, argnums: Argnums) -> tuple[int, ...]:
    found = tuple(argnums) if isinstance(argnums, Iterable) else (argnums,)
    for i in found:
        if not _is_position(i):
            raise TypeError(f"{what} are positions of arguments, not {i!r}")
    return tuple([int(i) for i in found])


def _is_position(i: Any) -> bool:
    return isinstance(i, (int, np.integer)) and not isinstance(i, bool)


def _named(what: str, function: Function, derivative: Function) -> Function:
    functools.update_wrapper(derivative, function, updated=())
    derivative.__name__ = derivative.__qualname__ = f"{what}({Parameters(function).name})"
    return derivative
