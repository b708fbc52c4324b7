"""Train a model on real data: `python train.py --model mlp`, or `make train MODEL=mlp DEVICE=cpu`.

Read it top to bottom: optimizer, step, the loop, the score. What is trained, data and model and loss, stands
in models/tasks.py, the configuration in models/configuration.py. Without --model it trains all three: the MLP
on digits, the CNN on clothes, the transformer on Shakespeare.

Weights are chosen by held-out data: a share of the training images, or the validation text. A test set is
looked at once, at the end, with the weights that were chosen (the last ones, where nothing is held out).

A run can be stopped at any moment and goes on with --resume, to the same bits."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import shlex
import sys
import time
from typing import Any, NoReturn

from tqdm import tqdm

import minigrad as mg
from minigrad import amp, nn, optim, training
from minigrad.nn import functional as F
from minigrad.optim import schedule as schedules
from minigrad.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from minigrad.optim.whole import WholeVector
from models.configuration import Config, runs
from models.tasks import Classification, Language

# ------------------------------------------------------------------------------------------------- optimizer


def grouped(model: nn.Module, c: Config) -> list[dict[str, Any]]:
    """Named parameters: matrices and filters decay; norms, biases and vectors do not. None that is frozen."""
    for name, p in model.named_parameters():
        if c.freeze is not None and name.startswith(c.freeze):
            p.requires_grad_(False)
    last, decay = training.chain(c.optimizer)[-1].cls, c.weight_decay
    if hasattr(last, "split"):  # Muon: hidden matrices, and AdamW for the rest
        return last.split(model) if decay is None else last.split(model, decay)
    groups = optim.param_groups(model, weight_decay=1.0)  # 1 or 0: whether they decay at all
    if issubclass(last, WholeVector):  # L-BFGS and its like see one vector
        named = [entry for group in groups for entry in group["params"]]
        return [dict(params=named, weight_decay=decay)]
    return [group | dict(weight_decay=decay if group["weight_decay"] else 0.0) for group in groups]


def optimizer_of(model: nn.Module, c: Config) -> Any:
    """The update rule over the model's parameters, in groups of one learning rate and weight decay each."""
    known = training.taken(c.optimizer)
    options = dict(lr=c.lr, momentum=c.momentum, weight_decay=c.weight_decay) | c.optimizer_options
    options = {name: value for name, value in options.items() if value is not None}
    if options.get("momentum") and "nesterov" in known:
        options = dict(nesterov=True) | options
    if options.get("momentum") == 0:
        options.pop("nesterov", None)
    groups = []
    for group in grouped(model, c):
        rates: dict[float | None, list[tuple[str, Any]]] = {}
        for name, p in group.pop("params"):
            fitting = [(len(prefix), x) for prefix, x in c.lr_of or [] if name.startswith(prefix)]
            rates.setdefault(max(fitting)[1] if fitting else None, []).append((name, p))
        if "weight_decay" not in known or group["weight_decay"] is None:
            group.pop("weight_decay")
        groups += [group | dict(params=p) | ({} if x is None else dict(lr=x)) for x, p in rates.items()]
    if all(set(group) == {"params"} for group in groups):  # nothing tells them apart
        groups = [dict(params=[p for group in groups for p in group["params"]])]
    for prefix, _ in c.lr_of or []:
        names = [name for name, _ in model.named_parameters()]
        if not any(name.startswith(prefix) for name in names):
            raise ValueError(f"--lr-of {prefix}: no parameter's name starts so; they are {names}")
    return training.optimizer_named(c.optimizer, groups, options)


Rates = list[tuple[dict[str, Any], schedules.Schedule]]


def rates_of(optimizer: Any, c: Config, task: Any) -> tuple[Rates, training.Plateau | None]:
    """Each group that has a learning rate, and its schedule; a rate that the rule learns is left to it.

    With --schedule plateau, also what lowers them."""
    groups = [g for g in optimizer.param_groups if "lr" in g and not isinstance(g["lr"], mg.Tensor)]
    if len(groups) < len(optimizer.param_groups) and (c.schedule != "constant" or c.warmup):
        raise ValueError(f"--schedule {c.schedule}: {c.optimizer} sees to its learning rate; use constant")
    if c.schedule == "plateau":
        mode, warm = "max" if task.better is max else "min", (c.warmup or 0.0) * task.steps
        lrs = [g["lr"] for g in groups]
        plateau = training.Plateau(lrs, mode, warm, **c.schedule_options or {})
        return list(zip(groups, plateau.schedules)), plateau
    return [(g, schedule_of(c, task, g["lr"])) for g in groups], None


def schedule_of(c: Config, task: Any, lr: float) -> schedules.Schedule:
    """Completed optimizer steps -> learning rate."""
    per = task.epoch if c.schedule_per == "epoch" else 1
    length = -(-task.steps // per)
    warm = None if c.warmup is None else c.warmup * length
    at = schedules.named(c.schedule, lr, length, warm, **c.schedule_options or {})
    return schedules.per_epoch(at, per)


# -------------------------------------------------------------------------------------------------- the loop


class Run:
    """What a run is made of. `parts` is what a checkpoint holds of it: all that training changes."""

    def __init__(self, c: Config, fresh: bool = True):
        mg.manual_seed(c.seed)
        self.c, self.kind = c, c.device.partition(":")[0]
        self.task: Any = Language(c) if c.model == "transformer" else Classification(c)
        self.model = self.task.model(c)
        if c.init is not None and fresh:
            report = self.model.load_state_dict(training.weights(c.init)[0], strict=False)
            missing, other = report.missing_keys, report.unexpected_keys
            print(f"{c.init}: not in the file: {missing}; not in the model: {other}")
        self.model.to(c.device)
        self.optimizer = optimizer_of(self.model, c)
        self.trained = self.optimizer.parameters()
        self.rates, self.plateau = rates_of(self.optimizer, c, self.task)
        self.scaler = amp.GradScaler(self.kind, enabled=c.amp == "float16")
        self.average = averaged_of(self.model, c)  # None without --ema and --swa
        self.patience = training.EarlyStopping(c.early_stop, self.task.better) if c.early_stop else None
        self.progress = training.Progress(c.device)
        found = dict(model=self.model, optimizer=self.optimizer, scaler=self.scaler, average=self.average,
                     patience=self.patience, plateau=self.plateau, loader=self.task.train,
                     random=mg.random.default_generator, progress=self.progress)  # fmt: skip
        self.parts = {name: part for name, part in found.items() if part is not None}
        self.guard = training.Guard(self.parts, dict(self.model.named_buffers()))
        self.window: list[Any] = []  # the batches of the present step, or their indices until it has begun
        self.flags: list[mg.Tensor] = []  # of the captured steps that nobody has asked yet whether they were
        self.known = 0  # of those that the scaler left out: how many now.skipped counts
        self.doctor = training.Diagnosis(self.model, self.optimizer) if c.diagnose else None
        self.about = dict(
            model=c.model, data=c.data, config=dataclasses.asdict(c), **self.task.about(self.model)
        )

        inside = getattr(self.optimizer, "innermost", self.optimizer)
        if hasattr(inside, "sampled_loss"):  # Sophia-G, K-FAC: labels that the model itself draws
            inside.sampled_loss = self.sampled_loss
        if hasattr(inside, "outputs"):  # natural gradient: the model's distribution
            inside.outputs = self.outputs
        self.captured = self.whole()

    @property
    def source(self) -> Any:
        """What the loop goes through: batches, or their indices where a captured step gathers them."""
        indices = self.task.train.indices if self.captured is not None else None
        return self.task.train if indices is None else indices

    def batches(self, given: Any) -> list[Any]:
        return [self.task.train.gather(b) if isinstance(b, mg.Tensor) else b for b in given]

    @property
    def taken(self) -> int:
        """Completed optimizer steps, as far as the host knows: what a schedule goes by."""
        return self.progress.step - self.progress.skipped - (self.scaler.skips - self.known)

    def sampled_loss(self) -> mg.Tensor:
        logits = self.task.logits(self.model, self.window[0])
        return F.cross_entropy(logits, optim.sample_labels(logits))

    def outputs(self) -> tuple[mg.Tensor, mg.Tensor]:
        return self.task.logits(self.model, self.window[0]), self.window[0][1]

    def loss(self, batch: Any, reduction: str = "mean") -> mg.Tensor:
        dtype = getattr(mg, self.c.amp or "float16")
        with amp.autocast(self.kind, dtype=dtype, enabled=self.c.amp is not None):
            return self.task.loss(self.model, batch, reduction)

    def gradient(self, note: bool = True) -> mg.Tensor:
        """The mean loss of the window, and its gradient: scaled under float16, else clipped."""
        mg.random.default_generator.offset = self.draws  # the same dropout, however often a rule asks
        self.optimizer.zero_grad()
        if len(self.window) > 1:
            loss = training.accumulate(self.window, lambda batch: self.loss(batch, "sum"),
                                       lambda batch: batch[1].numel(), self.backward)  # fmt: skip
        else:
            loss = self.loss(self.window[0])
            self.backward(loss)
        if self.c.clip_adaptive is not None:
            if self.scaler.is_enabled():
                self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_adaptive_(self.trained, self.c.clip_adaptive)
        if not self.scaler.is_enabled():
            self.norm = nn.utils.clip_grad_norm_(self.trained, self.c.clip or math.inf)
            if note:
                self.guard.note(self.norm)
        return loss

    def whole(self) -> Any:
        """The step as one launch, on a GPU; None for a rule or a run that looks at the device in between.

        All micro-batches of --accumulate are in the one graph. Under float16 the step returns whether it was
        left out, which `settle` asks when the loop waits for the device anyway.
        """
        if self.kind != "cuda" or not self.c.graph:
            return None
        if why := self.looks():
            print(f"steps are not captured: {why}")
            return None

        def step(*given: Any) -> tuple[mg.Tensor, Any]:
            self.window = self.batches(given)
            loss = self.gradient(note=False)
            if self.scaler.is_enabled():
                self.scaler.step(self.optimizer, clip=self.c.clip)
                self.scaler.update()
                return loss, self.scaler.found_inf
            self.optimizer.step()
            return loss, self.norm

        return mg.graph.capture(step, schedule=self.plan)

    def looks(self) -> str:
        """Why the host has to look at the device in the middle of a step; empty where it does not."""
        records = training.chain(self.c.optimizer)
        if several := [r.cls.__name__ for r in records if "closure" in r.needs]:
            return f"{several[0]} asks for several gradients a step"
        if hasattr(self.optimizer, "outputs"):
            return f"{type(self.optimizer).__name__} asks for the model's distribution"
        if self.doctor is not None or self.c.anomaly:
            return "--diagnose and --anomaly look into each step"
        if self.average is not None and self.scaler.is_enabled():
            return "an average of weights takes in only steps that float16 did not leave out"
        return ""

    def plan(self, ahead: int = 0) -> None:
        """Set the learning rates of the n-th step from now."""
        now = self.taken
        for group, at in self.rates:
            group["lr"] = at(max(now, min(now + ahead, self.task.steps - 1)))

    def settle(self) -> None:
        """Take back what was counted of captured steps that float16 left out. Waits for the device."""
        if not self.flags:
            return
        now, bad = self.progress, [flag != 0 for flag in mg.stack(self.flags).tolist()]
        losses = zip(now.losses[-len(bad) :], bad, strict=True)
        now.losses[-len(bad) :] = [loss for loss, left_out in losses if not left_out]
        for left_out in bad:
            now.row = now.row + 1 if left_out else 0
        self.optimizer.settle()
        now.skipped += self.scaler.skips - self.known
        self.known, self.flags = self.scaler.skips, []
        for group, at in self.rates:  # of the last step
            group["lr"] = at(now.step - 1 - (now.skipped - bad[-1]))

    def backward(self, loss: mg.Tensor) -> None:
        self.scaler.scale(loss).backward()  # without float16 the loss is its own

    def step(self, careful: bool = False) -> mg.Tensor | None:
        """One optimizer step on the window; its loss, None if it is known to have been skipped."""
        self.draws = mg.random.default_generator.offset  # what dropout draws from
        captured = self.captured is not None and not careful
        if not captured:
            self.window = self.batches(self.window)
        if self.scaler.is_enabled() and captured:
            loss, flag = self.captured(*self.window)
            self.flags.append(flag)
            return loss.detach()
        if self.scaler.is_enabled():  # the next scale depends on this gradient: it looks at each step
            loss = self.gradient()
            self.scaler.step(self.optimizer, clip=self.c.clip)
            self.scaler.update()
            skipped, self.known = self.scaler.skipped, self.scaler.skips
        else:
            with self.guard.step(careful):
                if captured:
                    loss, norm = self.captured(*self.window)
                    self.guard.note(norm)
                elif self.doctor is None:
                    loss = self.optimizer.step(self.gradient)
                else:  # it looks at the gradient before the rule uses it
                    loss = self.gradient()
                    self.optimizer.step(lambda: loss)
            skipped = self.guard.skipped
        if skipped:
            return None
        if self.doctor is not None:
            self.doctor.observe(loss, self.scaler.grad_norm if self.scaler.is_enabled() else self.norm)
        return loss.detach()

    @property
    def judged(self) -> nn.Module:
        """The model whose score counts: the average of weights, once there is one."""
        started = self.average is not None and int(self.average.n_averaged)
        return self.average.module if started else self.model

    def score(self, batches: Any) -> float:
        model = self.judged.eval()
        with mg.no_grad(), training.at_rest(self.optimizer):
            score = self.task.score(model, batches)
        model.train()
        return score

    def weights(self) -> dict[str, mg.Tensor]:
        with training.at_rest(self.optimizer):
            return training.owned(self.judged.state_dict())


def averaged_of(model: nn.Module, c: Config) -> Any:
    """A model whose weights, and batch norm's statistics, are an average of the trained one's; or None."""
    if c.ema is not None:
        return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(c.ema), use_buffers=True)
    return None if c.swa is None else AveragedModel(model, use_buffers=True)


def train(c: Config, found: training.Found | None, asked: training.Interrupt) -> float:
    """One run; the best score on held-out data, whose weights are in `out`/best.safetensors."""
    try:
        run = Run(c, fresh=found is None)
        task, now = run.task, run.progress
        if found is not None:
            training.restore(run.parts, found.state, found.path)
            if now.step > task.steps:
                raise ValueError(f"--epochs {c.epochs} ends at step {task.steps}, {found.path} is after it")
    except (ImportError, OSError, TypeError, ValueError) as error:  # a damaged file, an option that is not
        print(f"train.py: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    checkpoints = training.Checkpoints(c.folder, c.keep)
    checkpoints.folder.mkdir(parents=True, exist_ok=True)
    parameters = sum(p.numel() for p in run.model.parameters())
    title = f"{c.model} of {parameters:,} parameters on {c.data}: {task.sizes}; {c.optimizer}, {c.device}"
    print(title, flush=True)
    if c.lr_find or c.sweep:
        return find(run)
    checkpoints.forget_after(now.step if found is not None else -1)
    if now.weights is not None:
        checkpoints.save_best(now.weights, run.about | dict(step=now.best_step, score=now.best))
    if found is not None:
        for problem in found.problems:
            print(f"passed over: {problem}")
        print(f"going on after step {now.step:,} of {task.steps:,}, {found.path}")

    started, first = time.perf_counter(), now.step
    every = max(task.steps // 10, 1)  # held-out data are looked at ten times
    save_every = c.save_every or every
    batches, again = training.endless(run.source, c.accumulate), 0
    run.guard.keep()
    bar = tqdm(total=task.steps, initial=now.step, unit="step", disable=None, leave=False)
    watch = mg.autograd.detect_anomaly() if c.anomaly else contextlib.nullcontext()
    with training.Curve(c.folder / "curve.jsonl", after=now.step) as curve, watch:
        while now.step < task.steps and not (run.patience and run.patience.should_stop):
            run.window = next(batches)
            run.plan()
            loss = run.step(careful=now.step < again)
            now.step += 1
            if loss is None:
                now.skipped, now.row = now.skipped + 1, now.row + 1
            else:
                now.row = now.row if run.flags else 0  # settle() counts where nobody has looked yet
                now.losses.append(loss)  # stays on the device
                if run.average is not None and now.step > (c.swa or 0) * task.steps:
                    run.average.update_parameters(run.model)
            bar.update()

            last = now.step == task.steps
            log, look = now.step % c.log_every == 0, now.step % every == 0 or last
            stopping = asked.signal  # read once: it may come at any moment
            save = now.step % save_every == 0 or last or stopping is not None
            if not (log or look or save):
                continue
            run.settle()
            if not run.guard.sound():  # a gradient held inf or nan: these steps again, without the bad ones
                again = now.step
                run.guard.rewind()
                batches = training.endless(run.source, c.accumulate)
                bar.update(now.step - again)
                continue
            if log:  # here the loop waits for the device
                mean = float(mg.stack(now.losses).mean()) if now.losses else math.nan
                if (now.losses and not math.isfinite(mean)) or now.row >= training.HOPELESS:
                    stop(now, checkpoints, mean)
                lr = float(run.optimizer.param_groups[0].get("lr", math.nan))
                shown = "-" if now.best is None else task.show(now.best)
                bar.set_postfix(loss=f"{mean:.4f}", lr=f"{lr:.2g}", held_out=shown)
                if now.losses:
                    curve.add(step=now.step, loss=mean, lr=lr)
                now.losses.clear()
            if look and task.held_out is not None:
                score = run.score(task.held_out)
                curve.add(step=now.step, score=score)
                if run.doctor is not None and task.better is min:  # the score is a loss
                    run.doctor.observe_held_out(score)
                if now.best is None or task.better(score, now.best) == score:
                    now.best, now.best_step = score, now.step
                    now.weights = run.weights()
                    checkpoints.save_best(now.weights, run.about | dict(step=now.step, score=score))
                if run.plateau is not None:
                    run.plateau.look(score, now.step - now.skipped)
                if run.patience is not None and run.patience(score):
                    print(f"no better score in {c.early_stop} looks: stopped after step {now.step:,}")
                    save = True
            if save:
                curve.sync()
                path = checkpoints.save(now.step, training.state_of(run.parts) | dict(about=run.about))
            run.guard.keep()
            if stopping is not None:
                asked.leave(
                    f"train.py: stopped by {stopping.name} after step {now.step:,} of {task.steps:,}; "
                    f"go on with: python train.py --resume {shlex.quote(str(path))}"
                )
    bar.close()

    with training.at_rest(run.optimizer):
        if now.weights is not None:
            run.judged.load_state_dict(now.weights)
        score = run.score(task.test)
        if now.weights is None:
            checkpoints.save_best(run.weights(), run.about | dict(step=now.step, score=score))
    seconds = time.perf_counter() - started
    drawn = training.draw(c.folder / "curve.jsonl", c.folder.name)
    if text := task.epilogue(run.judged):
        print(text)
    if run.doctor is not None:
        print(run.doctor.report())
    if run.captured is not None and run.captured.why:
        print(f"steps were not captured: {run.captured.why}")
    if now.skipped:
        print(f"{now.skipped:,} steps were skipped: their gradients held inf or nan")
    print(f"{c.folder}: best.safetensors, curve.jsonl{drawn}")
    made = f"{now.step - first:,} steps in {seconds:.1f} s"
    print(f"{task.unit} {task.show(score)} on {c.data}, {c.device}, {made}")
    return score


def find(run: Run) -> float:
    """The learning rate that a range test, or a sweep over decades, suggests; nan if none. No training."""
    run.captured = None  # the rate is not the schedule's
    keep = training.Snapshot(run.model, run.optimizer, run.task.train)

    def step(lr: float, batches: Any) -> mg.Tensor:
        for group in run.optimizer.param_groups:
            group["lr"] = lr
        run.window = next(batches)
        loss = run.step()
        return mg.tensor(math.inf) if loss is None else loss

    def short(lr: float) -> list[float]:
        batches = training.endless(run.task.train, run.c.accumulate)
        return [float(step(lr, batches)) for _ in range(min(run.task.steps, 100))]

    if run.c.sweep:
        found: Any = training.sweep(short, keep=keep)
        suggestion, name = found.best, "sweep.png"
    else:
        batches = training.endless(run.task.train, run.c.accumulate)
        found = training.lr_find(lambda lr: step(lr, batches), keep=keep)
        suggestion, name = found.suggestion, "lr-find.png"
    print(found)
    with contextlib.suppress(ImportError):  # without matplotlib the table must do
        found.plot(run.c.folder / name)
        print(run.c.folder / name)
    return math.nan if suggestion is None else suggestion


def stop(now: training.Progress, checkpoints: training.Checkpoints, mean: float) -> NoReturn:
    """A run whose loss is inf or nan does not come back."""
    steps = checkpoints.steps()
    sound = f"the last sound checkpoint is {checkpoints.path(steps[-1])}" if steps else "no checkpoint yet"
    print(
        f"train.py: the loss is {mean} at step {now.step:,}, and {now.skipped:,} steps were skipped for "
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
