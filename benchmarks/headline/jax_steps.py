"""JAX's contestant: the whole step as one jitted function, its state donated.

Products, convolutions and attention are in the type of the precision, norms and the loss in float32, as
autocast has it. Running statistics of batch norms are kept, as in PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from . import plain
from .measure import Contestant
from .work import CLIP, WEIGHT_DECAY, Work, convolutions


def contestant(work: Work, mode: str, where: str) -> Contestant:
    """The jitted step; JAX takes the GPU by itself where it has one."""
    jax.config.update("jax_platforms", "cpu" if where == "cpu" else "cuda")
    matmul = "float32" if work.precision == "fp32" else "tensorfloat32"
    jax.config.update("jax_default_matmul_precision", matmul)
    params = {name: jnp.asarray(w) for name, w in work.weights().items()}
    rule = optax.chain(optax.clip_by_global_norm(CLIP), optax.adamw(work.lr, weight_decay=WEIGHT_DECAY))
    running = {name: jnp.stack([jnp.zeros(o), jnp.ones(o)]) for name, _, o in convolutions(work.width)}
    data = tuple(jnp.asarray(a) for a in work.data())
    held = [(params, rule.init(params), running if work.kind == "resnet9" else {})]
    logits = network(work)

    def loss_of(params: Any, inputs: Any, targets: Any) -> Any:
        out, statistics = logits(params, inputs)
        each = optax.softmax_cross_entropy_with_integer_labels(out.astype(jnp.float32), targets)
        return each.mean(), statistics

    def whole(state: Any, data: Any, index: Any) -> Any:
        params, moments, running = state
        (loss, statistics), grads = jax.value_and_grad(loss_of, has_aux=True)(
            params, *[a[index] for a in data]
        )
        updates, moments = rule.update(grads, moments, params)
        running = jax.tree.map(lambda old, new: 0.9 * old + 0.1 * new, running, statistics)
        return (optax.apply_updates(params, updates), moments, running), loss

    run = jax.jit(whole, donate_argnums=0)

    def step(index: Any) -> Any:
        held[0], loss = run(held[0], data, index)
        return loss

    batches = [jnp.asarray(index) for index in work.order()]
    return Contestant(step, batches, lambda: jax.block_until_ready(held[0]))


def network(work: Work) -> Callable[[Any, Any], tuple[Any, Any]]:
    """f(parameters, inputs) -> logits, and the statistics of the batch norms by name."""
    half = jnp.bfloat16 if work.precision == "bf16" else jnp.float32
    if work.kind == "resnet9":
        return lambda p, x: resnet9(p, x, half)
    forward = plain.forward(work, Jitted(half))
    return lambda p, x: (forward(p, x), {})


class Jitted:
    """What plain.py needs."""

    relu, tanh = staticmethod(jax.nn.relu), staticmethod(jnp.tanh)

    def __init__(self, half: Any):
        self.half = half

    def dot(self, x: Any, w: Any) -> Any:
        return x.astype(self.half) @ w.astype(self.half).T

    def mean(self, x: Any) -> Any:
        return x.astype(jnp.float32).mean(-1, keepdims=True)

    def rsqrt(self, x: Any) -> Any:
        return lax.rsqrt(x)

    def attend(self, q: Any, k: Any, v: Any) -> Any:
        """cuDNN's fused kernel where it serves: on a GPU in half precision."""
        fused = self.half == jnp.bfloat16 and jax.default_backend() == "gpu"
        return jax.nn.dot_product_attention(
            q, k, v, is_causal=True, implementation="cudnn" if fused else "xla"
        )


def resnet9(p: Any, x: Any, half: Any) -> tuple[Any, Any]:
    """(B, 3, 32, 32) -> logits; images are NCHW for the program, and lie as XLA likes best."""
    statistics: dict[str, Any] = {}

    def block(name: str, x: Any, pool: bool = False) -> Any:
        x = lax.conv_general_dilated(
            x.astype(half), p[f"{name}.conv"].astype(half), (1, 1), ((1, 1), (1, 1)),
            dimension_numbers=("NCHW", "OIHW", "NCHW"),
        )  # fmt: skip
        wide, count = x.astype(jnp.float32), x.size // x.shape[1]
        mean, var = wide.mean((0, 2, 3)), wide.var((0, 2, 3))
        statistics[name] = lax.stop_gradient(jnp.stack([mean, var * (count / (count - 1))]))
        scale = (lax.rsqrt(var + 1e-5) * p[f"{name}.gain"]).reshape(-1, 1, 1)
        x = (wide - mean.reshape(-1, 1, 1)) * scale + p[f"{name}.bias"].reshape(-1, 1, 1)
        x = jax.nn.relu(x).astype(half)
        return largest(x, 2) if pool else x

    def residual(name: str, x: Any) -> Any:
        return x + block(f"{name}.1", block(f"{name}.0", x))

    x = residual("residual1", block("layer1", block("prepare", x), True))
    x = residual("residual3", block("layer3", block("layer2", x, True), True))
    x = largest(x, 4).reshape(x.shape[0], -1)
    return x @ p["head"].astype(half).T * 0.125, statistics


def largest(x: Any, n: int) -> Any:
    """Max pooling by n."""
    return lax.reduce_window(x, -np.inf, lax.max, (1, 1, n, n), (1, 1, n, n), "VALID")
