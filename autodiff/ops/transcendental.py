"""Exponentials, logarithms and circular functions, element by element."""

from __future__ import annotations

import numpy as np

from autodiff.ir import Op
from autodiff.ops.base import elementwise

exp = elementwise("exp", np.exp, jvp=lambda t, y, x: t * y, domain="floating")
expm1 = elementwise("expm1", np.expm1, jvp=lambda t, y, x: t * (y + 1), domain="floating")
log = elementwise("log", np.log, jvp=lambda t, y, x: t / x, domain="floating")
log1p = elementwise("log1p", np.log1p, jvp=lambda t, y, x: t / (x + 1), domain="floating")
sin: Op = elementwise("sin", np.sin, jvp=lambda t, y, x: t * cos(x), domain="floating")
cos: Op = elementwise("cos", np.cos, jvp=lambda t, y, x: t * -sin(x), domain="floating")
tanh = elementwise("tanh", np.tanh, jvp=lambda t, y, x: t * (1 - y * y), domain="floating")
