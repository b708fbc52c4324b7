"""Train a model on real data: `python train.py --model mlp`, or `make train MODEL=mlp DEVICE=cpu`.

Read it top to bottom: data, model, optimizer, the loop, the score; the configuration stands in
models/configuration.py. Without --model it trains all three: the MLP on digits, the CNN on clothes, the
transformer on Shakespeare.

Weights are chosen by held-out data: a share of the training images, or the validation text. A test set is
looked at once, at the end, with the weights that were chosen (the last ones, where nothing is held out).

A run can be stopped at any moment and goes on with --resume, to the same bits."""

from __future__ import annotations

import dataclasses
import math
import shlex
import sys
import time
from typing import Any, NoReturn

import numpy as np
from tqdm import tqdm

import minigrad as mg
from minigrad import data, nn, training
from minigrad.data import DataLoader, TensorDataset, TextWindows
from minigrad.nn import functional as F
from minigrad.optim import schedule as schedules
from models import GPT, MLP, GPTConfig, ResNet9, SmallCNN
from models.configuration import Config, runs

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
        self.epoch = -(-len(self.train) // c.accumulate)  # steps
        self.steps = max(round(c.epochs * self.epoch), 1)

    def model(self, c: Config) -> nn.Module:
        if c.model == "mlp":
            inputs = self.channels * self.size**2
            return MLP([inputs, 64 if inputs == 64 else 128, 10])
        return ResNet9() if c.data == "cifar10" else SmallCNN(self.channels, self.size)

    def loss(self, model: nn.Module, batch: Any, reduction: str = "mean") -> mg.Tensor:
        images, labels = batch
        return F.cross_entropy(model(images), labels, reduction=reduction)  # logits (B, 10)

    def score(self, model: nn.Module, batches: DataLoader) -> float:
        hits = [(model(images).argmax(1) == labels).sum() for images, labels in batches]
        return float(mg.stack(hits).sum()) / batches.examples()

    def show(self, score: float) -> str:
        return f"{100 * score:.2f} %"

    def about(self, model: nn.Module) -> dict[str, Any]:
        return {}

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
        self.epoch = -(-len(self.train) // c.accumulate)
        self.steps = max(round(c.epochs * 1000), 1)

    def model(self, c: Config) -> nn.Module:
        return GPT(GPTConfig(self.tokenizer.vocab_size, self.context))

    def loss(self, model: nn.Module, batch: Any, reduction: str = "mean") -> mg.Tensor:
        inputs, targets = batch  # logits (B T, vocab)
        return F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten(), reduction=reduction)

    def score(self, model: nn.Module, batches: TextWindows) -> float:
        total = [self.loss(model, batch, "sum") for batch in batches]
        return float(mg.stack(total).sum()) / (len(batches.tokens) - 1)

    def show(self, score: float) -> str:
        return f"{score:.3f} nats a character"

    def about(self, model: Any) -> dict[str, Any]:
        """What makes the model again: its sizes and its alphabet."""
        return dict(tokenizer=self.tokenizer.to_json(), gpt=dataclasses.asdict(model.config))

    def epilogue(self, model: Any) -> str:
        start = mg.tensor([self.tokenizer.encode("\n")], device=self.device)
        return self.tokenizer.decode(model.generate(start, 400, temperature=0.8, top_k=40)[0].cpu())


# ------------------------------------------------------------------------------------------------- optimizer


def grouped(model: nn.Module, c: Config) -> list[dict[str, Any]]:
    """Matrices and filters decay; biases, norms and other vectors do not. Frozen parameters are left out."""
    for name, p in model.named_parameters():
        if c.freeze is not None and name.startswith(c.freeze):
            p.requires_grad_(False)
    trained = [p for p in model.parameters() if p.requires_grad]
    matrices, rest = [p for p in trained if p.ndim > 1], [p for p in trained if p.ndim <= 1]
    groups = [dict(params=matrices, weight_decay=c.weight_decay), dict(params=rest, weight_decay=0.0)]
    return [g for g in groups if g["params"]]


def optimizer_of(model: nn.Module, c: Config) -> Any:
    """The update rule over the model's parameters, in groups of one learning rate and weight decay each."""
    known = training.taken(training.rule(c.optimizer))
    options = dict(lr=c.lr, momentum=c.momentum, weight_decay=c.weight_decay) | c.optimizer_options
    options = {name: value for name, value in options.items() if value is not None}
    if options.get("momentum") and "nesterov" in known:
        options = dict(nesterov=True) | options
    if options.get("momentum") == 0:
        options.pop("nesterov", None)
    names = {p: name for name, p in model.named_parameters()}
    groups = []
    for group in grouped(model, c):
        rates: dict[float | None, list[tuple[str, Any]]] = {}
        for p in group.pop("params"):
            fitting = [(len(prefix), x) for prefix, x in c.lr_of or [] if names[p].startswith(prefix)]
            rates.setdefault(max(fitting)[1] if fitting else None, []).append((names[p], p))
        if "weight_decay" not in known or group["weight_decay"] is None:
            group.pop("weight_decay")
        groups += [group | dict(params=p) | ({} if x is None else dict(lr=x)) for x, p in rates.items()]
    for prefix, _ in c.lr_of or []:
        if not any(name.startswith(prefix) for name in names.values()):
            raise ValueError(
                f"--lr-of {prefix}: no parameter's name starts so; they are {list(names.values())}"
            )
    return training.optimizer_named(c.optimizer, groups, options)


def schedule_of(c: Config, task: Any, lr: float) -> schedules.Schedule:
    """Completed optimizer steps -> learning rate."""
    per = task.epoch if c.schedule_per == "epoch" else 1
    length = -(-task.steps // per)
    warm = None if c.warmup is None else c.warmup * length
    at = schedules.named(c.schedule, lr, length, warm, **c.schedule_options or {})
    return schedules.per_epoch(at, per)


# -------------------------------------------------------------------------------------------------- the loop


@dataclasses.dataclass
class Progress:
    """Where a run is: steps made, those of them that were skipped, the best score so far and its weights, the
    losses since the last line of the log."""

    device: str
    step: int = 0
    skipped: int = 0
    best: float | None = None
    best_step: int = 0
    weights: dict[str, mg.Tensor] | None = None
    losses: list[mg.Tensor] = dataclasses.field(default_factory=list)  # they stay on the device

    def state_dict(self) -> dict[str, Any]:
        return {k: v for k, v in vars(self).items() if k != "device"}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        losses = [t.to(self.device) for t in state["losses"]]
        vars(self).update({k: state[k] for k in self.state_dict()} | dict(losses=losses))


def evaluated(task: Any, model: nn.Module, batches: Any) -> float:
    model.eval()
    with mg.no_grad():
        score = task.score(model, batches)
    model.train()
    return score


def train(c: Config, found: training.Found | None, asked: training.Interrupt) -> float:
    """One run; the best score on held-out data, whose weights are in `out`/best.safetensors."""
    mg.manual_seed(c.seed)
    try:
        task: Any = Language(c) if c.model == "transformer" else Classification(c)
        model = task.model(c)
        if c.init is not None and found is None:
            report = model.load_state_dict(training.weights(c.init)[0], strict=False)
            print(
                f"{c.init}: not in the file: {report.missing_keys}; "
                f"not in the model: {report.unexpected_keys}"
            )
        model = model.to(c.device)
        optimizer = optimizer_of(model, c)
        run = Progress(c.device)
        parts = dict(model=model, optimizer=optimizer, loader=task.train,
                     random=mg.random.default_generator, progress=run)  # fmt: skip
        rates = [(g, schedule_of(c, task, g["lr"])) for g in optimizer.param_groups if "lr" in g]
        if found is not None:
            training.restore(parts, found.state, found.path)
            if run.step > task.steps:
                raise ValueError(f"--epochs {c.epochs} ends at step {task.steps}, {found.path} is after it")
    except (ImportError, OSError, TypeError, ValueError) as error:  # a damaged file, an option that is not
        print(f"train.py: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    about = dict(model=c.model, data=c.data, config=dataclasses.asdict(c)) | task.about(model)
    checkpoints = training.Checkpoints(c.folder, c.keep)
    checkpoints.folder.mkdir(parents=True, exist_ok=True)
    checkpoints.forget_after(run.step if found is not None else -1)
    if run.weights is not None:
        checkpoints.save_best(run.weights, about | dict(step=run.best_step, score=run.best))
    parameters = sum(p.numel() for p in model.parameters())
    title = f"{c.model} of {parameters:,} parameters on {c.data}: {task.sizes}; {c.optimizer}, {c.device}"
    print(title, flush=True)
    if found is not None:
        for problem in found.problems:
            print(f"passed over: {problem}")
        print(f"going on after step {run.step:,} of {task.steps:,}, {found.path}")

    def closure() -> mg.Tensor:
        """The loss of the present window, and its gradient, clipped."""
        mg.random.default_generator.offset = draws  # the same dropout, however often a rule asks
        optimizer.zero_grad()
        loss = gradient(task, model, window)
        guard.note(nn.utils.clip_grad_norm_(model.parameters(), c.clip or math.inf))
        return loss

    started, first = time.perf_counter(), run.step
    every = max(task.steps // 10, 1)  # held-out data are looked at ten times
    save_every = c.save_every or every
    guard, again = training.Guard(parts, dict(model.named_buffers())), 0
    batches = training.endless(task.train, c.accumulate)
    bar = tqdm(total=task.steps, initial=run.step, unit="step", disable=None, leave=False)
    with training.Curve(c.folder / "curve.jsonl", after=run.step) as curve:
        while run.step < task.steps:
            window, draws = next(batches), mg.random.default_generator.offset
            for group, at in rates:
                group["lr"] = lr = at(run.step - run.skipped)

            with guard.step(careful=run.step < again):
                loss = optimizer.step(closure)
                run.losses.append(loss.detach())  # stays on the device
            run.step += 1
            run.skipped += guard.skipped
            bar.update()

            last = run.step == task.steps
            log, look = run.step % c.log_every == 0, run.step % every == 0 or last
            stopping = asked.signal  # read once: it may come at any moment
            save = run.step % save_every == 0 or last or stopping is not None
            if not (log or look or save):
                continue
            if not guard.sound():  # a gradient held inf or nan: these steps again, without the bad ones
                again = run.step
                guard.rewind()
                batches = training.endless(task.train, c.accumulate)
                bar.update(run.step - again)
                continue
            if log:  # here the loop waits for the device
                mean = float(mg.stack(run.losses).mean()) if run.losses else math.nan
                if not math.isfinite(mean):
                    stop(run, checkpoints, mean)
                run.losses.clear()
                shown = "-" if run.best is None else task.show(run.best)
                bar.set_postfix(loss=f"{mean:.4f}", lr=f"{lr:.2g}", held_out=shown)
                curve.add(step=run.step, loss=mean, lr=lr)
            if look and task.held_out is not None:
                score = evaluated(task, model, task.held_out)
                curve.add(step=run.step, score=score)
                if run.best is None or task.better(score, run.best) == score:
                    run.best, run.best_step = score, run.step
                    run.weights = training.owned(model.state_dict())
                    checkpoints.save_best(run.weights, about | dict(step=run.step, score=score))
            if save:
                curve.sync()
                path = checkpoints.save(run.step, training.state_of(parts) | dict(about=about))
            guard.keep()
            if stopping is not None:
                asked.leave(
                    f"train.py: stopped by {stopping.name} after step {run.step:,} of {task.steps:,}; "
                    f"go on with: python train.py --resume {shlex.quote(str(path))}"
                )
    bar.close()

    if run.weights is not None:
        model.load_state_dict(run.weights)
    score = evaluated(task, model, task.test)
    if run.weights is None:
        checkpoints.save_best(model.state_dict(), about | dict(step=run.step, score=score))
    seconds = time.perf_counter() - started
    drawn = training.draw(c.folder / "curve.jsonl", c.folder.name)
    if text := task.epilogue(model):
        print(text)
    if run.skipped:
        print(f"{run.skipped:,} steps were skipped: their gradients held inf or nan")
    print(f"{c.folder}: best.safetensors, curve.jsonl{drawn}")
    made = f"{run.step - first:,} steps in {seconds:.1f} s"
    print(f"{task.unit} {task.show(score)} on {c.data}, {c.device}, {made}")
    return score


def gradient(task: Any, model: nn.Module, window: list[Any]) -> mg.Tensor:
    """The mean loss of a window of batches, its gradient added to the parameters'."""
    if len(window) > 1:
        return training.accumulate(
            window, lambda batch: task.loss(model, batch, "sum"), lambda batch: batch[1].numel()
        )
    loss = task.loss(model, window[0])
    loss.backward()
    return loss


def stop(run: Progress, checkpoints: training.Checkpoints, mean: float) -> NoReturn:
    """A run whose loss is inf or nan does not come back."""
    steps = checkpoints.steps()
    sound = f"the last sound checkpoint is {checkpoints.path(steps[-1])}" if steps else "no checkpoint yet"
    print(
        f"train.py: the loss is {mean} at step {run.step:,}, and {run.skipped:,} steps were skipped for "
        f"gradients with inf or nan; a smaller --lr, a --warmup or a --clip may help; {sound}",
        file=sys.stderr,
    )
    raise SystemExit(1)


def main(argv: list[str] | None = None) -> list[float]:
    """The scores of the runs that the command line asks for."""
    scores: list[float] = []
    with training.Interrupt() as asked:
        for c, found in runs(argv):
            if asked.signal:
                asked.leave(f"train.py: stopped by {asked.signal.name} before {c.model}")
            scores.append(train(c, found, asked))
    return scores


if __name__ == "__main__":
    main(sys.argv[1:])
