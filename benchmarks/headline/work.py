"""What is the same for all contestants: the network by shape, first weights, data, the order of batches.

    mlp       784-512-256-10, ReLU
    gpt4      4 layers, width 128, 4 heads, 128 tokens          no biases, tied head, GELU (tanh), 65 tokens
    gpt6      6 layers, width 384, 6 heads, 256 tokens
    resnet9   conv-BN-ReLU blocks with two residual pairs, 32 x 32 images

The loss of all is the mean cross-entropy; the update clip_grad_norm_(1.0), then AdamW. Data can be learned,
but not wholly: so that the loss at step 100 says whether a contestant learns the same, and is far from 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

CLIP, WEIGHT_DECAY = 1.0, 1e-2
VOCABULARY, CLASSES = 65, 10
LAYERS = {"gpt4": (4, 128, 4, 128), "gpt6": (6, 384, 6, 256)}  # layers, width, heads, tokens
KINDS = ("mlp", *LAYERS, "resnet9")


@dataclass(frozen=True)
class Work:
    """One training problem. `small`: the same network with few parameters, for machines without a GPU."""

    kind: str
    batch: int
    precision: str  # fp32, tf32 or bf16
    small: bool = False

    @property
    def lr(self) -> float:
        """So small that two ways of rounding stay together for 100 steps: benchmarks/NOTES.md has figures."""
        return {"mlp": 1e-4, "resnet9": 1e-5}.get(self.kind, 3e-4) * (10 if self.small else 1)

    @property
    def sizes(self) -> list[int]:
        """Of the MLP's layers."""
        return [20, 16, 12, CLASSES] if self.small else [784, 512, 256, CLASSES]

    @property
    def gpt(self) -> tuple[int, int, int, int]:
        """layers, width, heads, tokens."""
        return (2, 16, 2, 8) if self.small else LAYERS[self.kind]

    @property
    def width(self) -> int:
        """Channels of ResNet-9's first block."""
        return 4 if self.small else 64

    @property
    def image(self) -> tuple[int, ...]:
        """Shape of an input that is not text."""
        return (self.sizes[0],) if self.kind == "mlp" else (3, 32, 32)

    @property
    def examples(self) -> int:
        return 64 if self.small else 2048 if self.kind in LAYERS else 8192

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The parameters in the order in which all contestants have them."""
        if self.kind == "mlp":
            pairs = list(zip(self.sizes, self.sizes[1:]))
            found = [((f"{k}.weight", (o, i)), (f"{k}.bias", (o,))) for k, (i, o) in enumerate(pairs)]
            return dict([named for layer in found for named in layer])
        return self._resnet() if self.kind == "resnet9" else self._gpt()

    def _gpt(self) -> dict[str, tuple[int, ...]]:
        layers, d, _, tokens = self.gpt
        block = {
            "norm1": (d,),
            "qkv": (3 * d, d),
            "out": (d, d),
            "norm2": (d,),
            "up": (4 * d, d),
            "down": (d, 4 * d),
        }
        blocks = {f"{k}.{name}": shape for k in range(layers) for name, shape in block.items()}
        return {"tokens": (VOCABULARY, d), "positions": (tokens, d), **blocks, "norm": (d,)}

    def _resnet(self) -> dict[str, tuple[int, ...]]:
        w, found = self.width, {}
        for name, i, o in convolutions(w):
            found |= {f"{name}.conv": (o, i, 3, 3), f"{name}.gain": (o,), f"{name}.bias": (o,)}
        return {**found, "head": (CLASSES, 8 * w)}

    def weights(self) -> dict[str, np.ndarray]:
        """Matrices and filters normal with variance 1 / fan in, gains 1, biases 0."""
        rng, found = np.random.default_rng(0), {}
        for name, shape in self.shapes.items():
            if len(shape) == 1:
                found[name] = np.full(shape, 0.0 if name.endswith("bias") else 1.0, np.float32)
            else:
                scale = np.float32(1 / math.sqrt(math.prod(shape[1:])))
                found[name] = rng.standard_normal(shape, np.float32) * scale
        return found

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Inputs (examples, ...) and targets (examples,), or tokens (examples, T) and those after them."""
        rng = np.random.default_rng(1)
        if self.kind in LAYERS:
            return self._text(rng)
        y = rng.integers(0, CLASSES, self.examples)
        patterns = rng.standard_normal((CLASSES, *self.image), np.float32) * math.sqrt(
            2 / math.prod(self.image)
        )
        x = rng.standard_normal((self.examples, *self.image), np.float32)
        x += patterns.astype(np.float32)[y]  # two standard deviations between any two classes
        return x, y

    def _text(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """After a token come four others, which depend on the one two before it as well."""
        tokens, rows = self.gpt[3], self.examples
        after = rng.integers(0, VOCABULARY, (VOCABULARY, 3, 4))
        text = rng.integers(0, VOCABULARY, (rows, tokens + 1))
        for k in range(2, tokens + 1):
            text[:, k] = after[text[:, k - 1], text[:, k - 2] % 3, rng.integers(0, 4, rows)]
        return text[:, :-1].copy(), text[:, 1:].copy()

    def order(self) -> list[np.ndarray]:
        """The numbers of the examples, batch by batch."""
        whole = self.examples // self.batch * self.batch
        return list(np.random.default_rng(2).permutation(self.examples)[:whole].reshape(-1, self.batch))


def convolutions(w: int) -> list[tuple[str, int, int]]:
    """ResNet-9's convolutions with their channels, in order."""
    first = [("prepare", 3, w), ("layer1", w, 2 * w), *[(f"residual1.{k}", 2 * w, 2 * w) for k in range(2)]]
    last = [("layer2", 2 * w, 4 * w), ("layer3", 4 * w, 8 * w)]
    return [*first, *last, *[(f"residual3.{k}", 8 * w, 8 * w) for k in range(2)]]


def given(named: list[tuple[str, tuple[int, ...]]], weights: dict[str, np.ndarray]) -> list[np.ndarray]:
    """First weights of a model's parameters, by order; ValueError where its shapes are others."""
    if [tuple(shape) for _, shape in named] != [w.shape for w in weights.values()]:
        raise ValueError(f"the model's parameters {named} are not those of the problem: {list(weights)}")
    return list(weights.values())
