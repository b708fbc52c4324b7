"""What is compared: the rows, the most telling first, and in each the contestants, the most telling first.

A group is one network in one precision; its batch sizes are measured in one process of each contestant. The
first contestant is ours and runs again after the others (A-B-A).
"""

from __future__ import annotations

from dataclasses import dataclass

OURS, CUDNN = "minigrad graph", "minigrad graph cudnn"
EAGER, REDUCED = "torch eager", "torch reduce-overhead"
SMALL = (
    OURS,
    *(EAGER, REDUCED, "torch compiled graph", "jax", "torch graph", "torch compile"),
    *("minigrad eager", "minigrad naive"),
)
LARGE = (
    *(OURS, EAGER, "torch compile", "torch compiled graph", "jax", REDUCED, "torch graph"),
    "minigrad eager",
)
IMAGES = (OURS, CUDNN, EAGER, "torch compile", "torch compiled graph", "jax")
AGREE = 1e-3  # how far losses may be from PyTorch eager's, relative
PARAMETERS = 10_700_000  # of the vector that H5's optimizers step


@dataclass(frozen=True)
class Group:
    """One network in one precision, and who runs it."""

    row: str
    kind: str
    precision: str
    sizes: tuple[int, ...]
    contestants: tuple[str, ...]


GROUPS = (
    Group("H1", "mlp", "tf32", (128, 256, 512, 1024), SMALL),
    Group("H2", "gpt4", "tf32", (16,), SMALL),
    Group("H3", "gpt6", "tf32", (8, 64), LARGE),
    Group("H4", "resnet9", "tf32", (128, 512), IMAGES),
    Group("H3", "gpt6", "bf16", (8, 64), LARGE),
    Group("H4", "resnet9", "bf16", (128, 512), IMAGES),
)
ROWS = ("H1", "H2", "H5", "H3", "H4")  # in the order in which they run
TITLES = {
    "H1": "MLP 784-512-256-10",
    "H2": "GPT of 4 layers, width 128, 128 tokens",
    "H3": "GPT of 6 layers, width 384, 256 tokens",
    "H4": "ResNet-9, images 3 x 32 x 32",
    "H5": "Every elementwise optimizer on 10.7M float32 parameters",
}


@dataclass(frozen=True)
class Claim:
    """Ours is at least `times` as fast as `peer`; in H5 each rule reaches that share of a copy's GB/s."""

    row: str
    times: float
    peer: str
    ours: str = OURS
    sizes: tuple[int, ...] | None = None  # None: all


CLAIMS = (
    Claim("H1", 3.0, EAGER),
    Claim("H1", 1.5, REDUCED),
    Claim("H2", 3.0, EAGER),
    Claim("H2", 1.5, REDUCED),
    Claim("H3", 1.0, EAGER, sizes=(8,)),
    Claim("H4", 0.9, EAGER, ours=CUDNN),
    Claim("H5", 0.85, "a copy"),
)

# seconds that a contestant may take: imports, compiling, capturing, and 1,520 steps of each size
LIKELY = {"torch compile": 40, REDUCED: 50, "torch compiled graph": 45, "jax": 40}
OTHERS = 15


def likely(contestant: str, group: Group) -> float:
    """Seconds to reckon with."""
    heavy = {"gpt6": 20, "resnet9": 20}.get(group.kind, 2)
    return LIKELY.get(contestant, OTHERS) * (1 + (len(group.sizes) - 1) / 4) + heavy * len(group.sizes)
