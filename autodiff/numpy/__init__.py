"""NumPy's functions under one name, for programs that swap their import: `import autodiff.numpy as np`.

What NumPy's protocols catch is NumPy's own function, which takes tensors as it is; `array`, `asarray`, `full`,
`full_like` and `take` are different, because they would ask a tensor for its value.
"""

# ruff: noqa: A004 - names are NumPy's

from __future__ import annotations

from typing import Any

import numpy as np

from autodiff.numpy.promotion import lift, operand

# fmt: off
# isort: off
from numpy import (
    abs, absolute, acos, acosh, add, all, allclose, amax, amin, any, append, arange, arccos, arccosh, arcsin,
    arcsinh, arctan, arctan2, arctanh, argmax, argmin, array_equal, array_split, asin, asinh, atan, atan2, atanh,
    atleast_1d, atleast_2d, atleast_3d, average, bitwise_and, bitwise_invert, bitwise_not, bitwise_or, bitwise_xor,
    bool_, broadcast_arrays, broadcast_shapes, broadcast_to, can_cast, cbrt, clip, column_stack, concat,
    concatenate, conj, conjugate, copy, cos, cosh, count_nonzero, deg2rad, degrees, diag, diagonal, diff, divide,
    dot, dsplit, dstack, dtype, e, empty, empty_like, equal, errstate, euler_gamma, exp, exp2, expand_dims, expm1,
    eye, fabs, finfo, flip, fliplr, flipud, float32, float64, float_power, floating, fmax, fmin, generic, greater,
    greater_equal, heaviside, hsplit, hstack, hypot, identity, iinfo, indices, inf, inner, int32, int64, integer,
    invert, isclose, iscomplexobj, isfinite, isinf, isnan, isrealobj, isscalar, issubdtype, kron, less, less_equal,
    linspace, log, log10, log1p, log2, logaddexp, logical_and, logical_not, logical_or, logical_xor, matmul,
    matrix_transpose, max, maximum, mean, meshgrid, min, minimum, moveaxis, multiply, nan, nan_to_num, ndarray,
    ndim, negative, newaxis, not_equal, number, ones, ones_like, outer, pad, permute_dims, pi, positive, pow, power,
    printoptions, promote_types, ptp, rad2deg, radians, ravel, real, reciprocal, repeat, reshape, result_type, roll,
    rot90, select, set_printoptions, shape, sign, sin, sinh, size, split, sqrt, square, squeeze, stack, std,
    subtract, sum, swapaxes, take_along_axis, tan, tanh, tensordot, tile, trace, transpose, tri, tril, triu,
    true_divide, uint8, var, vdot, vecdot, vsplit, vstack, where, zeros, zeros_like,
)
# isort: on
# fmt: on


def __getattr__(name: str) -> Any:
    """`random`, which NumPy itself imports no sooner."""
    if name == "random":
        return np.random
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _holds_tensors(x: Any) -> bool:
    stack = [x]
    while stack:
        item = stack.pop()
        if isinstance(item, (list, tuple)):
            stack.extend(item)
        elif _is_tensor(item):
            return True
    return False


def _is_tensor(x: Any) -> bool:
    return not isinstance(x, np.ndarray) and hasattr(type(x), "__array_function__")


def array(object: Any, dtype: Any = None, *, copy: bool | None = True, ndmin: int = 0) -> Any:  # noqa: A002
    """`np.array`, also of tensors and of nested lists that hold some.

    Returns a tensor if it holds tensors, else an ndarray.

    Raises:
        ValueError: if the parts of a nested list differ in shape.
        TypeError: for a dtype that is not supported.

    >>> from autodiff import Tensor
    >>> array([Tensor(1.0), 2.0]).value.tolist()
    [1.0, 2.0]
    """
    if not _holds_tensors(object):
        return np.array(object, dtype, copy=copy, ndmin=ndmin)
    if isinstance(object, (list, tuple)):
        joined = np.stack([array(item) for item in object])
    else:
        joined = np.copy(object) if copy else object
    if dtype is not None:
        joined = joined.astype(dtype)
    return joined if joined.ndim >= ndmin else joined.reshape((1,) * (ndmin - joined.ndim) + joined.shape)


def asarray(a: Any, dtype: Any = None) -> Any:
    """`np.asarray`: a tensor stays what it is, and nested lists that hold tensors are joined to one.

    >>> from autodiff import Tensor
    >>> asarray([[Tensor(1.0), 2.0]]).shape
    (1, 2)
    """
    return array(a, dtype, copy=None)


def full(shape: Any, fill_value: Any, dtype: Any = None) -> Any:
    """`np.full`, also with a tensor to fill it with.

    >>> from autodiff import Tensor
    >>> full(2, Tensor(3.0)).value.tolist()
    [3.0, 3.0]
    """
    if not _is_tensor(fill_value):
        return np.full(shape, fill_value, dtype)
    filled = np.copy(np.broadcast_to(fill_value, shape))
    return filled if dtype is None else filled.astype(dtype)


def full_like(a: Any, fill_value: Any, dtype: Any = None, *, shape: Any = None) -> Any:
    """`np.full_like`, also with a tensor to fill it with.

    >>> from autodiff import Tensor
    >>> full_like(zeros(2), Tensor(3.0)).value.tolist()
    [3.0, 3.0]
    """
    if _is_tensor(a) or not _is_tensor(fill_value):
        return np.full_like(a, fill_value, dtype, shape=shape)
    a = np.asarray(a)
    return full(a.shape if shape is None else shape, fill_value, a.dtype if dtype is None else dtype)


def take(a: Any, indices: Any, axis: int | None = None, *, mode: Any = "raise") -> Any:
    """`np.take`, also out of an array at indices that are a tensor.

    >>> from autodiff import Tensor
    >>> take(arange(3.0) * 10, Tensor([2, 0])).value.tolist()
    [20.0, 0.0]
    """
    if _is_tensor(indices) and not _is_tensor(a):
        a = type(indices)._of(lift(operand(a)))
    return np.take(a, indices, axis, mode=mode)


# fmt: off
__all__ = [
    "abs", "absolute", "acos", "acosh", "add", "all", "allclose", "amax", "amin", "any", "append", "arange",
    "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctan2", "arctanh", "argmax", "argmin", "array",
    "array_equal", "array_split", "asarray", "asin", "asinh", "atan", "atan2", "atanh", "atleast_1d", "atleast_2d",
    "atleast_3d", "average", "bitwise_and", "bitwise_invert", "bitwise_not", "bitwise_or", "bitwise_xor", "bool_",
    "broadcast_arrays", "broadcast_shapes", "broadcast_to", "can_cast", "cbrt", "clip", "column_stack", "concat",
    "concatenate", "conj", "conjugate", "copy", "cos", "cosh", "count_nonzero", "deg2rad", "degrees", "diag",
    "diagonal", "diff", "divide", "dot", "dsplit", "dstack", "dtype", "e", "empty", "empty_like", "equal",
    "errstate", "euler_gamma", "exp", "exp2", "expand_dims", "expm1", "eye", "fabs", "finfo", "flip", "fliplr",
    "flipud", "float32", "float64", "float_power", "floating", "fmax", "fmin", "full", "full_like", "generic",
    "greater", "greater_equal", "heaviside", "hsplit", "hstack", "hypot", "identity", "iinfo", "indices", "inf",
    "inner", "int32", "int64", "integer", "invert", "isclose", "iscomplexobj", "isfinite", "isinf", "isnan",
    "isrealobj", "isscalar", "issubdtype", "kron", "less", "less_equal", "linspace", "log", "log1p", "log2",
    "log10", "logaddexp", "logical_and", "logical_not", "logical_or", "logical_xor", "matmul", "matrix_transpose",
    "max", "maximum", "mean", "meshgrid", "min", "minimum", "moveaxis", "multiply", "nan", "nan_to_num", "ndarray",
    "ndim", "negative", "newaxis", "not_equal", "number", "ones", "ones_like", "outer", "pad", "permute_dims", "pi",
    "positive", "pow", "power", "printoptions", "promote_types", "ptp", "rad2deg", "radians", "random", "ravel",
    "real", "reciprocal", "repeat", "reshape", "result_type", "roll", "rot90", "select", "set_printoptions",
    "shape", "sign", "sin", "sinh", "size", "split", "sqrt", "square", "squeeze", "stack", "std", "subtract", "sum",
    "swapaxes", "take", "take_along_axis", "tan", "tanh", "tensordot", "tile", "trace", "transpose", "tri", "tril",
    "triu", "true_divide", "uint8", "var", "vdot", "vecdot", "vsplit", "vstack", "where", "zeros", "zeros_like",
]
# fmt: on

if hasattr(np, "astype"):  # NumPy 2.1
    from numpy import astype, unstack

    __all__ += ["astype", "unstack"]
