"""What guides say, as data: a decision tree of five questions, and the field's habits by domain.

QUESTIONS are those of a well-known guide, DOMAINS of another. `recommend` (recommendation.py) counts the
votes and settles between answers that disagree. Where the guide's figures are wrong the right ones stand
here, and INVERTED and KEEP_RATE say what was corrected; docs/articles.md has the measurements.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Rule:
    """An optimizer to recommend: how it is shown, its options, and how its lr goes with the batch size."""

    shown: str
    options: Mapping[str, Any]
    scaling: str  # the rule of linear_scaling
    reference: int = 256  # the batch size that lr is for


# in the order of preference between equal votes
RULES: dict[str, Rule] = {
    "adamw": Rule("AdamW", dict(lr=1e-3, weight_decay=0.01), "sqrt"),
    "sgd": Rule("SGD", dict(lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4), "linear"),
    "adam": Rule("Adam", dict(lr=1e-3), "sqrt"),
    "nadam": Rule("NAdam", dict(lr=2e-3), "sqrt"),
    "rmsprop": Rule("RMSprop", dict(lr=1e-3, alpha=0.9), "sqrt"),
    "adagrad": Rule("Adagrad", dict(lr=0.01), "sqrt"),
}


@dataclass(frozen=True)
class Domain:
    """What a field has settled on: a rule, its schedules, batch sizes, and options that differ from RULES."""

    shown: str
    rule: str
    schedules: tuple[str, ...]  # the first one is recommended
    batch: tuple[int, int] | None
    options: Mapping[str, Any] = field(default_factory=dict)
    warmup: float = 0.0
    clip: float | None = None


DOMAINS: dict[str, Domain] = {
    "vision": Domain("computer vision (CNNs)", "sgd", ("cosine", "step"), (64, 256)),
    "nlp": Domain(
        "NLP, transformers", "adamw", ("warmup_cosine",), (256, 2048),
        dict(lr=3e-4, weight_decay=0.1), 0.05, 1.0,
    ),
    "llm": Domain(
        "large language models", "adamw", ("warmup_cosine",), (2048, 8192),
        dict(lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1), 0.02, 1.0,
    ),
    "gan": Domain(
        "generative models (GANs)", "adam", ("constant", "linear"), (32, 128),
        dict(lr=2e-4, betas=(0.0, 0.99)),
    ),
    "rl": Domain(
        "reinforcement learning", "adam", ("constant", "linear"), (32, 256), dict(lr=3e-4), clip=0.5
    ),
    "embeddings": Domain("sparse features, embeddings", "adagrad", ("constant",), None),
}  # fmt: skip
ALIASES = {"cnn": "vision", "transformer": "nlp", "cv": "vision", "sparse": "embeddings"}


@dataclass(frozen=True)
class Answer:
    """One way to answer a question: the words, the rules that it votes for, and what else it settles."""

    words: str
    votes: tuple[str, ...]
    advice: str
    settles: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Question:
    """A question of the tree, and its answers by the value that stands for them."""

    text: str
    answers: Mapping[Any, Answer]


DEEP = 50  # layers: more than these are "very deep"

QUESTIONS: dict[str, Question] = {
    "dataset": Question(
        "How large is the data set, for the memory there is?",
        {
            "large": Answer("large", ("sgd", "adam"), "mini-batches, of SGD or Adam", dict(batch=32)),
            "small": Answer("small", (), "the whole set as one batch, if time allows", dict(batch=None)),
        },
    ),
    "depth": Question(
        f"How deep is the model? (more than {DEEP} layers: deep)",
        {
            "deep": Answer("very deep", ("adamw", "rmsprop"), "AdamW or RMSprop"),
            "moderate": Answer("moderate", ("sgd",), "SGD with momentum, or Nesterov's"),
        },
    ),
    "fast": Question(
        "Must it converge fast?",
        {
            True: Answer("yes", ("adam", "nadam"), "Adam or NAdam"),
            False: Answer("no", ("sgd",), "SGD with momentum"),
        },
    ),
    "generalize": Question(
        "Is generalisation the concern?",
        {
            True: Answer(
                "yes", ("sgd",), "SGD with momentum and weight decay, or a cyclical (triangular) rate",
                dict(schedule="triangular", weight_decay=5e-4),
            ),
            False: Answer("no", ("adam",), "Adam"),
        },
    ),
    "accelerator": Question(
        "Does it train on accelerators: in large batches, or short of memory?",
        {
            "large_batch": Answer(
                "large batches", ("adamw", "sgd"), "AdamW, or SGD by the linear scaling rule",
                dict(batch=1024, warmup=0.05),
            ),
            "memory": Answer("short of memory", ("adam",), "Adam with clipped gradients", dict(clip=1.0)),
            "none": Answer("no", (), "nothing changes"),
        },
    ),
}  # fmt: skip

INVERTED = (
    "the guide gives SGD 1e-5 to 1e-3, 'higher for Adam', and 3e-4 on its cheat sheet. It is the other way "
    "round: SGD's step is lr times the gradient, 0.01 to 0.1 is usual; Adam's is about lr in every "
    "coordinate, 1e-4 to 1e-3 is"
)
KEEP_RATE = "the guide says to keep the learning rate when switching optimizers: keep neither; sweep it anew"
