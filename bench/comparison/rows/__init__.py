"""The table's rows: a file each."""

from __future__ import annotations

from comparison.row import Goal, Row
from comparison.rows.black_scholes import BlackScholes
from comparison.rows.chain import Chain
from comparison.rows.cross_entropy import CrossEntropy
from comparison.rows.hessian_vector import HessianVector
from comparison.rows.layer_norm import LayerNorm
from comparison.rows.mlp import MLP
from comparison.rows.rosenbrock import Rosenbrock
from comparison.rows.three_body import ThreeBody
from comparison.rows.training_step import TrainingStep

ROWS: list[Row] = [
    Rosenbrock(10, Goal(0.06, 0.03, "NumPy by hand")),
    Rosenbrock(1_000_000, Goal(1.0, 0.5, "torch.compile")),
    BlackScholes(),
    HessianVector(),
    CrossEntropy(),
    LayerNorm(),
    Chain(),
    MLP(),
    ThreeBody(),
    TrainingStep("perceptron", (784, 256, 128, 10), 128, Goal(0.9, 0.75, "NumPy by hand")),
    TrainingStep("wide-perceptron", (1024, 2048, 2048, 10), 256, Goal(1.0, 0.85, "JAX jit")),
]
