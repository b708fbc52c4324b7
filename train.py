"""Train a model on real data: `python train.py --model mlp`, or `make train MODEL=mlp DEVICE=cpu`.

Read it top to bottom: configuration, data, model, optimizer, the loop, the score. Without --model it trains
all three: the MLP on digits, the CNN on clothes, the transformer on Shakespeare.

Weights are chosen by held-out data: a share of the training images, or the validation text. A test set is
looked at once, at the end, with the weights that were chosen (the last ones, where nothing is held out)."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

import minigrad as mg
from minigrad import checkpoint, data, nn, optim
from minigrad.data import DataLoader, TensorDataset, TextWindows
from minigrad.nn import functional as F
from minigrad.optim import schedule as schedules
from models import GPT, MLP, GPTConfig, ResNet9, SmallCNN

# ---------------------------------------------------------------------------------------------- configuration


@dataclasses.dataclass
class Config:
    """What a run is made of. What is None on the command line takes the preset of the model and the data."""

    model: str
    data: str
    device: str
    seed: int
    epochs: float  # of a text: steps / 1,000
    batch_size: int
    optimizer: str
    lr: float
    momentum: float
    weight_decay: float
    betas: tuple[float, float]
    schedule: str
    warmup: float  # share of the steps
    clip: float | None
    augment: bool
    validation: float  # share of the training images that is held out
    init: str | None
    freeze: str | None
    log_every: int
    out: str


# What a domain expert would start with, by model; then what is particular to a data set
PRESETS: dict[str, dict[str, Any]] = {
    "mlp": dict(data="digits", epochs=60, batch_size=32, optimizer="adam", lr=1e-3, weight_decay=0.0,
                schedule="constant"),
    "cnn": dict(data="fashion", epochs=40, batch_size=64, optimizer="sgd", lr=0.05, momentum=0.9,
                weight_decay=5e-4, schedule="cosine", augment=True, validation=0.1),
    "transformer": dict(data="shakespeare", epochs=2, batch_size=16, optimizer="adamw", lr=1e-3,
                        betas=(0.9, 0.99), weight_decay=0.1, schedule="warmup_cosine", warmup=0.05, clip=1.0),
}  # fmt: skip
PARTICULAR: dict[str, dict[str, Any]] = {
    "mnist": dict(epochs=10, batch_size=128),
    "fashion_mnist": dict(epochs=10, batch_size=128),
    "cifar10": dict(epochs=20, batch_size=128, lr=0.1),
}
COMMON = dict(momentum=0.9, betas=(0.9, 0.999), warmup=0.0, clip=None, augment=False, validation=0.0)
IMAGES = ("digits", "fashion", "mnist", "fashion_mnist", "cifar10")
TEXTS = ("shakespeare", "tiny_shakespeare")
OPTIMIZERS: dict[str, Callable[[Any, Config], optim.Optimizer]] = {
    "sgd": lambda groups, c: optim.SGD(groups, c.lr, c.momentum, nesterov=c.momentum > 0),
    "adam": lambda groups, c: optim.Adam(groups, c.lr, c.betas),
    "adamw": lambda groups, c: optim.AdamW(groups, c.lr, c.betas),
}
SCHEDULES: dict[str, Callable[[Config, int], schedules.Schedule]] = {
    "constant": lambda c, steps: schedules.warmup(c.lr, c.warmup * steps, schedules.constant(c.lr)),
    "cosine": lambda c, steps: schedules.cosine(c.lr, steps),
    "linear": lambda c, steps: schedules.linear(c.lr, steps),
    "warmup_cosine": lambda c, steps: schedules.warmup_cosine(c.lr, c.warmup * steps, steps),
    "warmup_linear": lambda c, steps: schedules.warmup_linear(c.lr, c.warmup * steps, steps),
}


def configurations(argv: list[str] | None = None) -> list[Config]:
    """The runs that the command line asks for; one line and exit code 2 for what is wrong."""
    parser = argparse.ArgumentParser(
        prog="train.py", description="Train a model on real data.", allow_abbrev=False
    )
    add = parser.add_argument
    add("--model", choices=sorted(PRESETS), help="what to train (default: all three)")
    add("--data", choices=IMAGES + TEXTS, help="what to train it on; the default goes with the model")
    add("--optimizer", choices=sorted(OPTIMIZERS), help="the update rule")
    add("--schedule", choices=sorted(SCHEDULES), help="how the learning rate changes, step by step")
    add("--lr", type=positive, metavar="X", help="learning rate, > 0")
    add("--warmup", type=share, metavar="X", help="share of the steps in which lr rises from 0, in [0, 1)")
    add("--weight-decay", type=non_negative, metavar="X", help="weight decay of matrices, >= 0")
    add("--momentum", type=non_negative, metavar="X", help="momentum of sgd (Nesterov's form), >= 0")
    add("--clip", type=positive, metavar="X", help="largest norm of all gradients together")
    add("--epochs", type=positive, metavar="N", help="times through the data; of a text: thousands of steps")
    add("--batch-size", type=count, metavar="N", help="examples a step")
    add("--augment", action=argparse.BooleanOptionalAction, help="shift and mirror training images")
    add(
        "--init",
        metavar="FILE",
        help="start from the weights of a checkpoint, as far as names and shapes fit",
    )
    add("--validation", type=share, metavar="X", help="share of the training images to hold out, in [0, 1)")
    add("--freeze", metavar="PREFIX", help="do not train parameters whose names start so")
    add("--device", help="cpu, cuda or cuda:N (default: a GPU if there is one)")
    add(
        "--seed",
        type=int,
        metavar="N",
        default=0,
        help="seed of initialisation, order and dropout (default: 0)",
    )
    add("--log-every", type=count, metavar="N", default=20, help="steps between two looks at the loss")
    add("--out", metavar="FOLDER", default="runs", help="where curves and weights go (default: runs)")
    given = vars(parser.parse_args(argv))
    try:
        given["device"] = str(
            mg.resolve_device(given["device"] or ("cuda" if mg.cuda.is_available() else "cpu"))
        )
    except (ValueError, RuntimeError) as error:
        parser.exit(2, f"train.py: {error}\n")
    models = [given["model"]] if given["model"] else list(PRESETS)
    if given["data"] and not given["model"]:
        models = [m for m in models if (m == "transformer") == (given["data"] in TEXTS)]
    runs = []
    for model in models:
        name = given["data"] or PRESETS[model]["data"]
        if (model == "transformer") != (name in TEXTS):
            parser.exit(2, f"train.py: --model {model} does not go with --data {name}\n")
        preset = {**COMMON, **PRESETS[model], **PARTICULAR.get(name, {})}
        chosen = {k: v for k, v in given.items() if v is not None}
        runs.append(
            Config(**{**dict(init=None, freeze=None), **preset, **chosen, "model": model, "data": name})
        )
    return runs


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


def share(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not in [0, 1)")
    return value


def count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive whole number")
    return value


# ----------------------------------------------------------------------------------------------------- tasks


class Classification:
    """Images and labels: the loss is cross-entropy, the score accuracy, higher is better."""

    unit, better = "test accuracy", max

    def __init__(self, c: Config):
        (images, labels), (test, test_labels) = (getattr(data, c.data)(split) for split in ("train", "test"))
        largest = float(images.max())
        self.channels, self.size = (1 if images.ndim == 3 else images.shape[1]), images.shape[-1]

        def loader(x: Any, y: Any, size: int, **options: Any) -> DataLoader:
            x = x.reshape(len(x), self.channels, self.size, self.size)
            if "transform" not in options:  # else it stays uint8 until it was shifted and mirrored
                x = x / np.float32(largest)
            return DataLoader(TensorDataset(mg.tensor(x), mg.tensor(y)), size, device=c.device, **options)

        order = mg.random.host(None).permutation(len(images))
        held_out, rest = np.split(order, [int(len(order) * c.validation)])
        options: dict[str, Any] = {}
        if c.augment:
            mirror = data.RandomHorizontalFlip(0.0 if c.data in ("digits", "mnist") else 0.5)
            shift = data.RandomCrop(self.size, padding=self.size // 14)
            change = data.Compose([shift, mirror, data.Normalize(0.0, largest / 255)])
            options = dict(transform=change, prefetch=2)
        self.train = loader(images[rest], labels[rest], c.batch_size, shuffle=True, **options)
        self.held_out = loader(images[held_out], labels[held_out], 500) if len(held_out) else None
        self.test = loader(test, test_labels, 500)
        self.sizes = f"{len(rest):,} training, {len(held_out):,} held-out and {len(test):,} test images"
        self.steps = max(round(c.epochs * len(self.train)), 1)

    def model(self, c: Config) -> nn.Module:
        if c.model == "mlp":
            inputs = self.channels * self.size**2
            return MLP([inputs, 64 if inputs == 64 else 128, 10])
        return ResNet9() if c.data == "cifar10" else SmallCNN(self.channels, self.size)

    def loss(self, model: nn.Module, batch: Any) -> mg.Tensor:
        images, labels = batch
        return F.cross_entropy(model(images), labels)  # logits (B, 10)

    def score(self, model: nn.Module, batches: DataLoader) -> float:
        hits = [(model(images).argmax(1) == labels).sum() for images, labels in batches]
        return float(mg.stack(hits).sum()) / batches.examples()

    def show(self, score: float) -> str:
        return f"{100 * score:.2f} %"

    def epilogue(self, model: nn.Module) -> str:
        return ""


class Language:
    """A text, a character at a time: the loss and the score are nats a character, lower is better."""

    unit, better, context = "validation loss", min, 64

    def __init__(self, c: Config):
        text, held_out = (getattr(data, c.data)(split) for split in ("train", "validation"))
        self.tokenizer, self.device = data.CharTokenizer(text + held_out), c.device
        tokens, unseen = self.tokenizer.encode(text), self.tokenizer.encode(held_out)
        self.train = TextWindows(tokens, self.context, c.batch_size, shuffle=True, device=c.device)
        self.held_out = self.test = TextWindows(unseen, self.context, 64, device=c.device)
        self.sizes = f"{len(text):,} training and {len(held_out):,} validation characters"
        self.steps = max(round(c.epochs * 1000), 1)

    def model(self, c: Config) -> nn.Module:
        return GPT(GPTConfig(self.tokenizer.vocab_size, self.context))

    def loss(self, model: nn.Module, batch: Any) -> mg.Tensor:
        inputs, targets = batch
        return F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())  # logits (B T, vocab)

    def score(self, model: nn.Module, batches: TextWindows) -> float:
        total = [self.loss(model, batch) * batch[1].numel() for batch in batches]
        return float(mg.stack(total).sum()) / (len(batches.tokens) - 1)

    def show(self, score: float) -> str:
        return f"{score:.3f} nats a character"

    def epilogue(self, model: nn.Module) -> str:
        start = mg.tensor([self.tokenizer.encode("\n")], device=self.device)
        return self.tokenizer.decode(model.generate(start, 400, temperature=0.8, top_k=40)[0].cpu())


# -------------------------------------------------------------------------------------------------- the loop


def grouped(model: nn.Module, c: Config) -> list[dict[str, Any]]:
    """Matrices and filters decay; biases, norms and other vectors do not. Frozen parameters are left out."""
    for name, p in model.named_parameters():
        if c.freeze is not None and name.startswith(c.freeze):
            p.requires_grad_(False)
    trained = [p for p in model.parameters() if p.requires_grad]
    matrices, rest = [p for p in trained if p.ndim > 1], [p for p in trained if p.ndim <= 1]
    groups = [dict(params=matrices, weight_decay=c.weight_decay), dict(params=rest, weight_decay=0.0)]
    return [g for g in groups if g["params"]]


def evaluated(task: Any, model: nn.Module, batches: Any) -> float:
    model.eval()
    with mg.no_grad():
        score = task.score(model, batches)
    model.train()
    return score


def train(c: Config) -> float:
    """One run; the best score on held-out data, whose weights are in `out`/best.safetensors."""
    mg.manual_seed(c.seed)
    try:
        task = Language(c) if c.model == "transformer" else Classification(c)
        model = task.model(c)
        if c.init is not None:
            report = model.load_state_dict(checkpoint.load(c.init)[0], strict=False)
            print(
                f"{c.init}: not in the file: {report.missing_keys}; "
                f"not in the model: {report.unexpected_keys}"
            )
    except (
        ImportError,
        OSError,
        ValueError,
    ) as error:  # a missing or damaged file: the message names it and the cure
        print(f"train.py: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    model = model.to(c.device)
    optimizer = OPTIMIZERS[c.optimizer](grouped(model, c), c)
    lr_at = SCHEDULES[c.schedule](c, task.steps)
    out = Path(c.out) / f"{c.model}-{c.data}-{c.optimizer}-{c.seed}"
    out.mkdir(parents=True, exist_ok=True)
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{c.model} of {parameters:,} parameters on {c.data}: {task.sizes}; {c.optimizer}, {c.device}")

    best, losses, started = None, [], time.perf_counter()
    every = max(task.steps // 10, 1)  # held-out data are looked at ten times
    bar = tqdm(total=task.steps, unit="step", disable=None, leave=False)
    with open(out / "curve.jsonl", "w") as curve:
        batches = iter(task.train)
        for step in range(task.steps):
            batch = next(batches, None)
            if batch is None:  # the next epoch
                batches = iter(task.train)
                batch = next(batches)
            lr = lr_at(step)
            for group in optimizer.param_groups:
                group["lr"] = lr
            loss = task.loss(model, batch)
            optimizer.zero_grad()
            loss.backward()
            if c.clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), c.clip)
            optimizer.step()
            losses.append(loss.detach())  # stays on the device
            bar.update()
            if (step + 1) % c.log_every == 0:  # the only place where the loop waits for the device
                mean = float(mg.stack(losses).mean())
                losses.clear()
                shown = "-" if best is None else task.show(best)
                bar.set_postfix(loss=f"{mean:.4f}", lr=f"{lr:.2g}", held_out=shown)
                print(json.dumps(dict(step=step + 1, loss=mean, lr=lr)), file=curve, flush=True)
            if task.held_out is not None and ((step + 1) % every == 0 or step + 1 == task.steps):
                score = evaluated(task, model, task.held_out)
                print(json.dumps(dict(step=step + 1, score=score)), file=curve, flush=True)
                if best is None or task.better(score, best) == score:
                    best = score
                    save(out / "best.safetensors", model, task, c, step + 1, score)
    bar.close()
    if task.held_out is not None:
        model.load_state_dict(checkpoint.load(out / "best.safetensors")[0])
    score = evaluated(task, model, task.test)
    if task.held_out is None:
        save(out / "best.safetensors", model, task, c, task.steps, score)
    seconds = time.perf_counter() - started
    drawn = draw(out)
    if text := task.epilogue(model):
        print(text)
    print(f"{out}: best.safetensors, curve.jsonl{drawn}")
    print(f"{task.unit} {task.show(score)} on {c.data}, {c.device}, {task.steps:,} steps in {seconds:.1f} s")
    return score


def save(path: Path, model: nn.Module, task: Any, c: Config, step: int, score: float) -> None:
    """The weights, and what is needed to make the model again: its configuration and its alphabet."""
    meta: dict[str, Any] = dict(
        model=c.model, data=c.data, step=step, score=score, config=dataclasses.asdict(c)
    )
    if isinstance(task, Language):
        meta |= dict(tokenizer=task.tokenizer.to_json(), gpt=dataclasses.asdict(model.config))
    checkpoint.save(path, model.state_dict(), meta)


def draw(out: Path) -> str:
    """The learning curves as a picture, if matplotlib is there."""
    try:
        import matplotlib
    except ImportError:
        return " (matplotlib would draw it)"
    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [json.loads(line) for line in (out / "curve.jsonl").read_text().splitlines()]
    if not rows:  # a run shorter than --log-every
        return ""
    titles = dict(loss="training loss", score="held-out score")
    shown = [key for key in titles if any(key in row for row in rows)]
    size = (4.5 * len(shown), 3.2)
    figure, panels = pyplot.subplots(1, len(shown), figsize=size, layout="constrained", squeeze=False)
    for axes, key in zip(panels[0], shown, strict=True):
        points = [(row["step"], row[key]) for row in rows if key in row]
        axes.plot(*zip(*points, strict=True), marker="o" if key == "score" else None, markersize=3)
        axes.set(xlabel="step", title=titles[key])
        axes.grid(alpha=0.3)
    figure.suptitle(out.name)
    figure.savefig(out / "curve.png", dpi=120)
    pyplot.close(figure)
    return ", curve.png"


def main(argv: list[str] | None = None) -> list[float]:
    return [train(c) for c in configurations(argv)]


if __name__ == "__main__":
    main(sys.argv[1:])
