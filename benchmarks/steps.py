"""The workloads of step.py: the same step in minigrad, PyTorch, JAX and NumPy by hand.

A maker imports its library when it is called, so that a process which measures memory holds one of them.
Every contestant starts from the same weights, which are drawn here in PyTorch's layout, by parameter name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

Step = Callable[[], Any]  # one step; returns the loss, unread
Weights = dict[str, np.ndarray]
SIZES = [784, 256, 128, 10]
VOCAB, CONTEXT, WIDTH, HEADS, LAYERS, BATCH = 65, 64, 128, 4, 4, 16
SGD = dict(lr=0.01, momentum=0.9, nesterov=True)
ADAMW = dict(lr=1e-3, weight_decay=0.01)


@dataclass
class Workload:
    """Its contestants, ours first; the steps of a block; the products (times, rows, inner, columns)."""

    name: str
    makers: dict[str, Callable[[], Step]]
    count: int
    products: list[tuple[int, int, int, int]] = field(default_factory=list)


def uniform(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Weights of a size that keeps activations near one."""
    inputs = int(np.prod(shape[1:])) or shape[0]
    return (rng.uniform(-1, 1, shape) / np.sqrt(inputs)).astype(np.float32)


# ----------------------------------------------------------------------------------------- one step, each way


def ours(model: Any, weights: Weights, optimizer: Any, loss: Callable[[], Any]) -> Step:
    """zero_grad, loss, backward, step: in minigrad."""
    import minigrad as mg

    model.load_state_dict({k: mg.tensor(v) for k, v in weights.items()})
    rule = optimizer(model.parameters())

    def step() -> Any:
        rule.zero_grad()
        value = loss()
        value.backward()
        rule.step()
        return value.detach()

    return step


def theirs(model: Any, weights: Weights, optimizer: Any, loss: Callable[[Any], Any], compiled: bool) -> Step:
    """The same in PyTorch, the model compiled if asked."""
    import torch

    model.load_state_dict({k: torch.from_numpy(v) for k, v in weights.items()})
    rule = optimizer(model.parameters())
    run = torch.compile(model) if compiled else model

    def step() -> Any:
        rule.zero_grad()
        value = loss(run)
        value.backward()
        rule.step()
        return value.detach()

    return step


def jitted(weights: Weights, rule: Any, loss: Callable[..., Any], *data: np.ndarray) -> Step:
    """The same in JAX: one jitted function of parameters, state and data."""
    import jax
    import optax

    params = {k: jax.numpy.asarray(v) for k, v in weights.items()}
    inputs = tuple(jax.numpy.asarray(d) for d in data)
    held = [params, rule.init(params)]

    @partial(jax.jit, donate_argnums=(0, 1))
    def update(params: Any, state: Any, *inputs: Any) -> Any:
        value, grads = jax.value_and_grad(loss)(params, *inputs)
        changes, state = rule.update(grads, state, params)
        return optax.apply_updates(params, changes), state, value

    def step() -> Any:
        held[0], held[1], value = update(*held, *inputs)
        return value.block_until_ready()

    return step


def eager(make: Callable[..., Step]) -> dict[str, Callable[[], Step]]:
    """PyTorch's columns: eager with its plain and its fused optimizer, and compiled."""
    return {
        "torch": lambda: make(fused=None, compiled=False),
        "torch fused": lambda: make(fused=True, compiled=False),
        "torch.compile": lambda: make(fused=True, compiled=True),
    }


# ---------------------------------------------------------------------------------------------------- W1: MLP


def mlp_weights() -> Weights:
    rng, found = np.random.default_rng(0), {}
    for k, (i, o) in enumerate(pairwise(SIZES)):
        found[f"layers.{k}.weight"], found[f"layers.{k}.bias"] = uniform(rng, o, i), uniform(rng, o)
    return found


def mlp_data(batch: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return rng.standard_normal((batch, 784), np.float32), rng.integers(0, 10, batch)


def w1(batch: int) -> Workload:
    """MLP 784-256-128-10, cross-entropy, AdamW."""

    def minigrad() -> Step:
        import minigrad as mg
        from models import MLP

        model, (x, y) = MLP(SIZES), map(mg.tensor, mlp_data(batch))
        rule = partial(mg.optim.AdamW, **ADAMW)
        return ours(model, mlp_weights(), rule, lambda: mg.nn.functional.cross_entropy(model(x), y))

    def torch(fused: Any, compiled: bool) -> Step:
        import torch

        class MLP(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layers = torch.nn.ModuleList([torch.nn.Linear(i, o) for i, o in pairwise(SIZES)])

            def forward(self, x: Any) -> Any:
                for layer in self.layers[:-1]:
                    x = layer(x).relu()
                return self.layers[-1](x)

        x, y = map(torch.from_numpy, mlp_data(batch))
        rule = partial(torch.optim.AdamW, **ADAMW, fused=fused)
        loss = torch.nn.functional.cross_entropy
        return theirs(MLP(), mlp_weights(), rule, lambda model: loss(model(x), y), compiled)

    def jax() -> Step:
        import jax
        import optax

        def loss(p: Any, x: Any, y: Any) -> Any:
            for k in range(3):
                x = x @ p[f"layers.{k}.weight"].T + p[f"layers.{k}.bias"]
                x = jax.nn.relu(x) if k < 2 else x
            return optax.softmax_cross_entropy_with_integer_labels(x, y).mean()

        return jitted(mlp_weights(), optax.adamw(1e-3, weight_decay=0.01), loss, *mlp_data(batch))

    makers = {"minigrad": minigrad, **eager(torch), "jax": jax, "numpy": partial(mlp_by_hand, batch)}
    shapes = [(1, batch, i, o) for i, o in pairwise(SIZES)]
    return Workload(f"w1-{batch}", makers, 200 if batch < 100 else 100, shapes)


def mlp_by_hand(batch: int) -> Step:
    """The floor: W1 without autograd, in NumPy alone; the parameters in one buffer, as ours are."""
    weights, (x, y) = list(mlp_weights().values()), mlp_data(batch)
    stops = np.cumsum([w.size for w in weights])
    flat, grad = np.concatenate([w.ravel() for w in weights]), np.zeros(stops[-1], np.float32)

    def views(buffer: np.ndarray) -> list[np.ndarray]:
        return [buffer[e - w.size : e].reshape(w.shape) for e, w in zip(stops, weights, strict=True)]

    (w1, b1, w2, b2, w3, b3), (g1, c1, g2, c2, g3, c3) = views(flat), views(grad)
    m, v, d, r = (np.zeros_like(flat) for _ in range(4))
    rows, t = np.arange(batch), 0

    def step() -> Any:
        nonlocal t
        h1 = x @ w1.T
        np.maximum(np.add(h1, b1, out=h1), 0, out=h1)
        h2 = h1 @ w2.T
        np.maximum(np.add(h2, b2, out=h2), 0, out=h2)
        z = h2 @ w3.T + b3
        z -= z.max(axis=1, keepdims=True)
        e = np.exp(z)
        total = e.sum(axis=1)
        loss = np.mean(np.log(total) - z[rows, y])
        e /= total[:, None]
        e[rows, y] -= 1
        e /= batch
        np.matmul(e.T, h2, out=g3)
        np.sum(e, axis=0, out=c3)
        d2 = (e @ w3) * (h2 > 0)
        np.matmul(d2.T, h1, out=g2)
        np.sum(d2, axis=0, out=c2)
        d1 = (d2 @ w2) * (h1 > 0)
        np.matmul(d1.T, x, out=g1)
        np.sum(d1, axis=0, out=c1)
        t += 1
        np.multiply(m, 0.9, out=m)
        m.__iadd__(np.multiply(grad, 0.1, out=d))
        np.multiply(v, 0.999, out=v)
        v.__iadd__(np.multiply(np.multiply(grad, grad, out=d), 0.001, out=d))
        np.add(np.multiply(np.sqrt(v, out=r), 1 / (1 - 0.999**t) ** 0.5, out=r), 1e-8, out=r)
        np.multiply(np.divide(m, r, out=d), 1e-3 / (1 - 0.9**t), out=d)
        np.multiply(flat, 1 - 1e-5, out=flat)
        np.subtract(flat, d, out=flat)
        return loss

    return step


# ---------------------------------------------------------------------------------------------------- W2: CNN


def cnn_weights() -> Weights:
    rng, found = np.random.default_rng(0), {}
    for name, shape in dict(a=(32, 1, 3, 3), b=(64, 32, 3, 3), c=(64, 64, 3, 3), head=(10, 64 * 49)).items():
        found[f"{name}.weight"], found[f"{name}.bias"] = uniform(rng, *shape), uniform(rng, shape[0])
    return found


def cnn_data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return rng.standard_normal((64, 1, 28, 28), np.float32), rng.integers(0, 10, 64)


def w2() -> Workload:
    """The CNN, cross-entropy, SGD with Nesterov's momentum."""

    def layers(nn: Any) -> dict[str, Any]:
        found = dict(a=nn.Conv2d(1, 32, 3, padding=1), b=nn.Conv2d(32, 64, 3, padding=1))
        return found | dict(c=nn.Conv2d(64, 64, 3, stride=2, padding=1), head=nn.Linear(64 * 49, 10))

    def minigrad() -> Step:
        import minigrad as mg

        F = mg.nn.functional

        class CNN(mg.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                for name, layer in layers(mg.nn).items():
                    setattr(self, name, layer)

            def forward(self, x: Any) -> Any:
                x = F.conv2d(x, self.a.weight, self.a.bias, padding=1, activation="relu")
                x = F.conv2d(x, self.b.weight, self.b.bias, padding=1, activation="relu")
                x = F.max_pool2d(x, 2)
                x = F.conv2d(x, self.c.weight, self.c.bias, stride=2, padding=1, activation="relu")
                return self.head(x.flatten(1))

        model, (x, y) = CNN(), map(mg.tensor, cnn_data())
        return ours(model, cnn_weights(), partial(mg.optim.SGD, **SGD), lambda: F.cross_entropy(model(x), y))

    def torch(fused: Any, compiled: bool) -> Step:
        import torch

        class CNN(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                for name, layer in layers(torch.nn).items():
                    setattr(self, name, layer)

            def forward(self, x: Any) -> Any:
                x = torch.nn.functional.max_pool2d(self.b(self.a(x).relu()).relu(), 2)
                return self.head(self.c(x).relu().flatten(1))

        x, y = map(torch.from_numpy, cnn_data())
        rule = partial(torch.optim.SGD, **SGD, fused=fused)
        loss = torch.nn.functional.cross_entropy
        return theirs(CNN(), cnn_weights(), rule, lambda model: loss(model(x), y), compiled)

    def jax() -> Step:
        import jax
        import optax
        from jax import lax

        def conv(p: Any, name: str, x: Any, stride: int) -> Any:
            y = lax.conv_general_dilated(x, p[f"{name}.weight"], (stride, stride), ((1, 1), (1, 1)))
            return jax.nn.relu(y + p[f"{name}.bias"].reshape(-1, 1, 1))

        def loss(p: Any, x: Any, y: Any) -> Any:
            x = conv(p, "b", conv(p, "a", x, 1), 1)
            x = lax.reduce_window(x, -np.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")
            x = conv(p, "c", x, 2).reshape(64, -1) @ p["head.weight"].T + p["head.bias"]
            return optax.softmax_cross_entropy_with_integer_labels(x, y).mean()

        return jitted(cnn_weights(), optax.sgd(0.01, momentum=0.9, nesterov=True), loss, *cnn_data())

    return Workload("w2", {"minigrad": minigrad, **eager(torch), "jax": jax}, 4)


# ---------------------------------------------------------------------------------------------------- W3: GPT


def gpt_weights() -> Weights:
    rng, d = np.random.default_rng(0), WIDTH
    shapes = {"tokens.weight": (VOCAB, d), "positions.weight": (CONTEXT, d)}
    for k in range(LAYERS):
        block = {"norm1": (d,), "attention.qkv": (3 * d, d), "attention.out": (d, d), "norm2": (d,)}
        block |= {"up": (4 * d, d), "down": (d, 4 * d)}
        for name, shape in block.items():
            shapes[f"blocks.{k}.{name}.weight"], shapes[f"blocks.{k}.{name}.bias"] = shape, shape[:1]
    shapes |= {"norm.weight": (d,), "norm.bias": (d,), "head.weight": (VOCAB, d)}
    return {n: (rng.standard_normal(s) * 0.02 + ("norm" in n and n.endswith("weight"))).astype(np.float32)
            for n, s in shapes.items()}  # fmt: skip


def gpt_data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return rng.integers(0, VOCAB, (BATCH, CONTEXT)), rng.integers(0, VOCAB, BATCH * CONTEXT)


def w3() -> Workload:
    """The GPT, cross-entropy, AdamW."""

    def minigrad() -> Step:
        import minigrad as mg
        from models import GPT, GPTConfig

        model, (x, y) = GPT(GPTConfig(VOCAB, CONTEXT, LAYERS, HEADS, WIDTH)), map(mg.tensor, gpt_data())
        rule = partial(mg.optim.AdamW, **ADAMW)
        loss = mg.nn.functional.cross_entropy
        return ours(model, gpt_weights(), rule, lambda: loss(model(x).flatten(0, 1), y))

    def torch(fused: Any, compiled: bool) -> Step:
        import torch
        from torch import nn

        F = nn.functional

        class Block(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
                self.attention = nn.ModuleDict(
                    dict(qkv=nn.Linear(WIDTH, 3 * WIDTH), out=nn.Linear(WIDTH, WIDTH))
                )
                self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

            def forward(self, x: Any) -> Any:
                B, T, d = x.shape
                qkv = self.attention["qkv"](self.norm1(x)).view(B, T, 3, HEADS, -1)
                q, k, v = qkv.permute(2, 0, 3, 1, 4)
                y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
                x = x + self.attention["out"](y.transpose(1, 2).reshape(B, T, d))
                return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))

        class GPT(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.tokens, self.positions = nn.Embedding(VOCAB, WIDTH), nn.Embedding(CONTEXT, WIDTH)
                self.blocks = nn.ModuleList([Block() for _ in range(LAYERS)])
                self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, VOCAB, bias=False)

            def forward(self, x: Any) -> Any:
                h = self.tokens(x) + self.positions.weight[: x.shape[1]]
                for block in self.blocks:
                    h = block(h)
                return self.head(self.norm(h)).flatten(0, 1)

        x, y = map(torch.from_numpy, gpt_data())
        rule = partial(torch.optim.AdamW, **ADAMW, fused=fused)
        return theirs(GPT(), gpt_weights(), rule, lambda model: F.cross_entropy(model(x), y), compiled)

    def jax() -> Step:
        import jax
        import optax
        from jax import numpy as jnp

        mask = np.where(np.tri(CONTEXT, dtype=bool), 0.0, -np.inf).astype(np.float32)

        def linear(p: Any, name: str, x: Any) -> Any:
            return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]

        def norm(p: Any, name: str, x: Any) -> Any:
            d = x - x.mean(-1, keepdims=True)
            scale = jax.lax.rsqrt((d * d).mean(-1, keepdims=True) + 1e-5)
            return d * scale * p[f"{name}.weight"] + p[f"{name}.bias"]

        def block(p: Any, k: int, x: Any) -> Any:
            at, (B, T, d) = f"blocks.{k}", x.shape
            qkv = linear(p, f"{at}.attention.qkv", norm(p, f"{at}.norm1", x)).reshape(B, T, 3, HEADS, -1)
            q, k_, v = jnp.transpose(qkv, (2, 0, 3, 1, 4))
            weights = jax.nn.softmax(q @ k_.swapaxes(-1, -2) / np.float32(d // HEADS) ** 0.5 + mask)
            y = (weights @ v).transpose(0, 2, 1, 3).reshape(B, T, d)
            x = x + linear(p, f"{at}.attention.out", y)
            return x + linear(p, f"{at}.down", jax.nn.gelu(linear(p, f"{at}.up", norm(p, f"{at}.norm2", x))))

        def loss(p: Any, x: Any, y: Any) -> Any:
            h = p["tokens.weight"][x] + p["positions.weight"]
            for k in range(LAYERS):
                h = block(p, k, h)
            z = (norm(p, "norm", h) @ p["head.weight"].T).reshape(-1, VOCAB)
            return optax.softmax_cross_entropy_with_integer_labels(z, y).mean()

        return jitted(gpt_weights(), optax.adamw(1e-3, weight_decay=0.01), loss, *gpt_data())

    rows, d = BATCH * CONTEXT, WIDTH
    shapes = [(LAYERS, rows, i, o) for i, o in ((d, 3 * d), (d, d), (d, 4 * d), (4 * d, d))]
    makers = {"minigrad": minigrad, **eager(torch), "jax": jax}
    return Workload("w3", makers, 5, [*shapes, (1, rows, d, VOCAB)])


# ---------------------------------------------------------------------------------------------- W5: recording


def w5() -> Workload:
    """1,000 tiny operations, forward and backward: y <- y b, y <- y + x. The same lines for both."""

    def chain(name: str) -> Step:
        from importlib import import_module

        lib = import_module(name)
        x, b = lib.ones(16, requires_grad=True), lib.full((16,), 0.99)

        def step() -> Any:
            x.grad = None
            y = x
            for _ in range(500):
                y = y * b
                y = y + x
            loss = y.sum()
            loss.backward()
            return loss.detach()

        return step

    def jax() -> Step:
        import jax

        def loss(x: Any, b: Any) -> Any:
            y = x
            for _ in range(500):
                y = y * b
                y = y + x
            return y.sum()

        run = jax.jit(jax.value_and_grad(loss))
        x, b = jax.numpy.ones(16), jax.numpy.full(16, 0.99)
        return lambda: run(x, b)[0].block_until_ready()

    makers = {"minigrad": partial(chain, "minigrad"), "torch": partial(chain, "torch"), "jax": jax}
    return Workload("w5", makers, 20)


# ------------------------------------------------------------------------------------ the optimizer by itself


def small_tensors() -> list[tuple[int, ...]]:
    """197 shapes, biases among them, of 1.29M elements in all."""
    rng = np.random.default_rng(3)
    return [(int(n), 128) if k % 2 else (int(n),) for k, n in enumerate(rng.integers(60, 145, 197))]


def adamw(name: str, shapes: list[tuple[int, ...]], count: int) -> Workload:
    """AdamW on parameters of these shapes; the "loss" is their first element."""

    def values() -> tuple[list[np.ndarray], list[np.ndarray]]:
        rng = np.random.default_rng(2)
        drawn = [[rng.standard_normal(s, np.float32) for s in shapes] for _ in range(2)]
        return drawn[0], drawn[1]

    def stepper(library: str, **fused: Any) -> Step:
        from importlib import import_module

        lib, (start, grads) = import_module(library), values()
        params = [lib.from_numpy(v).requires_grad_() for v in start]
        rule = lib.optim.AdamW(params, **fused)
        for p, g in zip(params, grads, strict=True):  # gradients as backward leaves them
            (p * lib.from_numpy(g)).sum().backward()

        def step() -> Any:
            rule.step()
            return params[0].detach().reshape(-1)[0]

        return step

    makers = {"minigrad": partial(stepper, "minigrad"), "torch": partial(stepper, "torch")}
    return Workload(name, {**makers, "torch fused": partial(stepper, "torch", fused=True)}, count)


WORKLOADS = {w.name: w for w in (w1(32), w1(128), w2(), w3(), w5())}
WORKLOADS |= {"adamw-197": adamw("adamw-197", small_tensors(), 100)}
WORKLOADS |= {"adamw-10m": adamw("adamw-10m", [(10_000_000,)], 5)}
