"""MAML: weights from which one gradient step learns a new task.

    inner:  theta_i = theta - alpha grad L_i(theta)                    on a few examples of task i
    outer:  theta <- theta - beta grad_theta sum_i L_i(theta_i)        on others of the same task

The outer gradient goes through the inner step, whose derivative by theta is I - alpha H_i: create_graph=True
makes the inner gradient a part of the graph. First-order MAML leaves H_i out. A task is a sine wave, of
amplitude 0.1 to 5 and phase 0 to pi; ten examples x in [-5, 5] are given, and the wave is asked for.

    python -m examples.maml [--iterations 3000] [--first-order]

[Finn, Abbeel & Levine 2017, Model-agnostic meta-learning, arXiv:1703.03400, section 5.1]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

import minigrad as mg
from minigrad import optim

Weights = Sequence[mg.Tensor]
Batch = tuple[mg.Tensor, mg.Tensor]  # x, y: (tasks, examples, 1)


def network(rng: np.random.Generator, hidden: int = 40, dtype: mg.dtype = mg.float32) -> list[mg.Tensor]:
    """Weights 1 -> hidden -> hidden -> 1 and biases, as leaves, drawn as PyTorch's Linear draws them."""
    sizes, found = (1, hidden, hidden, 1), []
    for m, n in pairwise(sizes):
        for shape in ((m, n), (1, n)):
            drawn = rng.uniform(-1, 1, shape) / m**0.5
            found.append(mg.tensor(drawn, dtype=dtype, requires_grad=True))
    return found


def predict(weights: Weights, x: mg.Tensor) -> mg.Tensor:
    """(tasks, examples, 1) -> the same; weights are shared (m, n), or one set a task (tasks, m, n)."""
    for k in range(0, len(weights), 2):
        x = x @ weights[k] + weights[k + 1]
        x = x.relu() if k + 2 < len(weights) else x
    return x


def loss(weights: Weights, batch: Batch) -> mg.Tensor:
    """The squared error, its mean over examples, summed over tasks: so tasks do not see each other."""
    x, y = batch
    return ((predict(weights, x) - y) ** 2).mean(1).sum()


def adapted(
    weights: Weights, support: Batch, steps: int = 1, alpha: float = 0.01, create_graph: bool = True
) -> list[mg.Tensor]:
    """Each task's own weights (tasks, m, n) after `steps` gradient steps on its support examples.

    With create_graph they are functions of `weights`; without, of `weights` but for the inner gradients,
    which count as constants: first-order MAML.
    """
    tasks = support[0].shape[0]
    own = [w.expand(tasks, *w.shape) + 0.0 for w in weights]
    for _ in range(steps):
        gradients = mg.grad(loss(own, support), own, create_graph=create_graph, retain_graph=True)
        own = [w - alpha * (g if create_graph else g.detach()) for w, g in zip(own, gradients, strict=True)]
    return own


def waves(rng: np.random.Generator, tasks: int, examples: int, dtype: mg.dtype = mg.float32) -> list[Batch]:
    """Support and query examples of so many sine waves."""
    amplitude, phase = rng.uniform(0.1, 5, (tasks, 1, 1)), rng.uniform(0, np.pi, (tasks, 1, 1))
    found = []
    for _ in range(2):
        x = rng.uniform(-5, 5, (tasks, examples, 1))
        found.append((mg.tensor(x, dtype=dtype), mg.tensor(amplitude * np.sin(x - phase), dtype=dtype)))
    return found


def train(
    iterations: int, seed: int = 0, first_order: bool = False, tasks: int = 25, lr: float = 3e-3
) -> list[mg.Tensor]:
    """Meta-trained weights: Adam on the query loss after one inner step."""
    rng = np.random.default_rng(seed)
    weights = network(rng)
    optimizer = optim.Adam(weights, lr=lr)
    for _ in range(iterations):
        support, query = waves(rng, tasks, 10)
        optimizer.zero_grad()
        (loss(adapted(weights, support, create_graph=not first_order), query) / tasks).backward()
        optimizer.step()
    return weights


def errors(weights: Weights, most: int = 5, tasks: int = 200, seed: int = 1) -> list[float]:
    """The mean squared error on new waves after 0 ... most inner steps."""
    support, query = waves(np.random.default_rng(seed), tasks, 10)
    found = []
    for steps in range(most + 1):
        own = adapted(weights, support, steps, create_graph=False)
        found.append(float(loss(own, query)) / tasks)
    return found


def main(args: Sequence[str] | None = None) -> list[float]:
    """Train, and print the errors; returns them."""
    parser = argparse.ArgumentParser(description="MAML on sine waves.")
    parser.add_argument("--iterations", type=int, default=3000, help="meta-training steps (default: 3000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first-order", action="store_true", help="leave the second derivatives out")
    options = parser.parse_args(args)
    print("inner steps            0      1      2      3      4      5")
    found = errors(network(np.random.default_rng(options.seed)))
    print("before training " + " ".join(f"{e:6.3f}" for e in found))
    found = errors(train(options.iterations, options.seed, options.first_order))
    print("after           " + " ".join(f"{e:6.3f}" for e in found))
    return found


if __name__ == "__main__":
    main()
