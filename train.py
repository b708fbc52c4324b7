"""Train a model on real data: `python train.py --model mlp`, or `make train MODEL=mlp DEVICE=cpu`.

Read it top to bottom: configuration, data, model, optimizer, the loop, the score.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time

from tqdm import tqdm

import minigrad as mg
from minigrad import nn, optim
from minigrad.data import DataLoader, TensorDataset, digits
from models import MLP

# ---------------------------------------------------------------------------------------------- configuration


@dataclasses.dataclass
class Config:
    """What a run is made of. Fields left at None take the preset of the model."""

    model: str = "mlp"
    data: str | None = None
    optimizer: str | None = None
    lr: float | None = None
    weight_decay: float | None = None
    momentum: float = 0.9
    epochs: int | None = None
    batch_size: int | None = None
    device: str | None = None
    seed: int = 0
    log_every: int = 20


# What a domain expert would start with
PRESETS = {
    "mlp": dict(data="digits", optimizer="adam", lr=1e-3, weight_decay=0.0, epochs=60, batch_size=32),
}
DATA = ("digits",)
OPTIMIZERS = {
    "sgd": lambda params, c: optim.SGD(params, lr=c.lr, momentum=c.momentum, weight_decay=c.weight_decay),
    "adam": lambda params, c: optim.Adam(params, lr=c.lr, weight_decay=c.weight_decay),
    "adamw": lambda params, c: optim.AdamW(params, lr=c.lr, weight_decay=c.weight_decay),
}


def configuration(argv: list[str] | None = None) -> Config:
    """The command line over the preset over the defaults; one line and exit code 2 for what is wrong."""
    parser = argparse.ArgumentParser(
        prog="train.py", description="Train a model on real data.", allow_abbrev=False
    )
    add = parser.add_argument
    add("--model", choices=sorted(PRESETS), default="mlp", help="what to train (default: mlp)")
    add("--data", choices=DATA, help="what to train it on; the default goes with the model")
    add("--optimizer", choices=sorted(OPTIMIZERS), help="the update rule")
    add("--lr", type=positive, metavar="X", help="learning rate, > 0")
    add("--weight-decay", type=non_negative, metavar="X", help="weight decay, >= 0")
    add("--momentum", type=non_negative, metavar="X", default=0.9, help="momentum of sgd (default: 0.9)")
    add("--epochs", type=count, metavar="N", help="times through the training data")
    add("--batch-size", type=count, metavar="N", help="examples a step")
    add("--device", help="cpu, cuda or cuda:N (default: a GPU if there is one)")
    add(
        "--seed",
        type=int,
        metavar="N",
        default=0,
        help="seed of initialisation, order and dropout (default: 0)",
    )
    add(
        "--log-every",
        type=count,
        metavar="N",
        default=20,
        help="steps between two looks at the loss (default: 20)",
    )
    given = vars(parser.parse_args(argv))
    config = Config(**given)
    for name, value in PRESETS[config.model].items():
        if getattr(config, name) is None:
            setattr(config, name, value)
    if config.device is None:
        config.device = "cuda" if mg.cuda.is_available() else "cpu"
    try:
        config.device = str(mg.resolve_device(config.device))
    except (ValueError, RuntimeError) as error:
        parser.exit(2, f"train.py: {error}\n")
    return config


def positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def non_negative(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not zero or a positive number")
    return value


def count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive whole number")
    return value


# ------------------------------------------------------------------------------------------------------- data


def datasets(config: Config) -> tuple[TensorDataset, TensorDataset]:
    """(training set, test set): images scaled to [0, 1], and class labels."""
    parts = []
    for split in ("train", "test"):
        images, labels = digits(split)
        parts.append(TensorDataset(mg.tensor(images, dtype=mg.float32) / 16, mg.tensor(labels)))
    return parts[0], parts[1]


# ------------------------------------------------------------------------------------------------------ model


def build(config: Config) -> nn.Module:
    """The model on its device, initialised from the seed."""
    return MLP([64, 64, 10]).to(config.device)


# --------------------------------------------------------------------------------------------------- the loop


def accuracy(model: nn.Module, loader: DataLoader) -> float:
    """The share of examples whose largest logit is at their label."""
    model.eval()
    hits = total = 0
    with mg.no_grad():
        for images, labels in loader:
            hits += int((model(images).argmax(1) == labels).sum())
            total += len(labels)
    model.train()
    return hits / total


def main(argv: list[str] | None = None) -> float:
    config = configuration(argv)
    mg.manual_seed(config.seed)
    try:
        train_set, test_set = datasets(config)
    except (OSError, ValueError) as error:  # a missing or damaged file: the message names it and the cure
        print(f"train.py: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    loader = DataLoader(train_set, config.batch_size, shuffle=True, device=config.device)
    test_loader = DataLoader(test_set, 500, device=config.device)
    model = build(config)
    optimizer = OPTIMIZERS[str(config.optimizer)](model.parameters(), config)
    loss_of = nn.CrossEntropyLoss()

    print(
        f"{config.model} of {sum(p.numel() for p in model.parameters()):,} parameters on {config.data} "
        f"({len(train_set):,} training, {len(test_set):,} test examples), {config.optimizer}, {config.device}"
    )
    start, steps = time.perf_counter(), 0
    bar = tqdm(range(config.epochs or 1), unit="epoch", disable=None, leave=False)
    for _ in bar:
        for images, labels in loader:
            logits = model(images)  # (B, 10)
            loss = loss_of(logits, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            steps += 1
            if steps % config.log_every == 0:  # the only place where the loop waits for the device
                hits = (logits.detach().argmax(1) == labels).float().mean()
                bar.set_postfix(
                    loss=f"{float(loss):.4f}",
                    accuracy=f"{float(hits):.3f}",
                    lr=f"{optimizer.param_groups[0]['lr']:g}",
                    steps_per_s=f"{steps / (time.perf_counter() - start):.0f}",
                )
    score = accuracy(model, test_loader)
    seconds = time.perf_counter() - start
    print(f"test accuracy {100 * score:.2f} %  on {config.data} (file-order split), {config.device}, "
          f"{steps:,} steps in {seconds:.1f} s")  # fmt: skip
    return score


if __name__ == "__main__":
    main(sys.argv[1:])
