"""Train a model on real data: `python train.py --model mlp`, or `make train MODEL=mlp DEVICE=cpu`.

Read it top to bottom: gradient, step, the loop, the score. What is trained, data and model and loss, stands
in models/tasks.py; the configuration in models/configuration.py; its optimizer and schedules in
models/rules.py; the step as one launch on a GPU in models/captured.py. Without --model it trains all three:
the MLP on digits, the CNN on clothes, the transformer on Shakespeare.

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
from models.captured import CapturedStep, refusal
from models.configuration import Config, runs
from models.rules import averaged_of, optimizer_of, rates_of
from models.tasks import Classification, Language


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
        self.known = 0  # of the steps that the scaler left out: how many progress.skipped counts
        self.doctor = training.Diagnosis(self.model, self.optimizer) if c.diagnose else None
        self.about = dict(
            model=c.model, data=c.data, config=dataclasses.asdict(c), **self.task.about(self.model)
        )

        inside = getattr(self.optimizer, "innermost", self.optimizer)
        if hasattr(inside, "sampled_loss"):  # Sophia-G, K-FAC: labels that the model itself draws
            inside.sampled_loss = self.sampled_loss
        if hasattr(inside, "outputs"):  # natural gradient: the model's distribution
            inside.outputs = self.outputs
        self.captured: CapturedStep | None = None  # the step as one launch, on a GPU
        if self.kind == "cuda" and c.graph:
            if why := refusal(self):
                print(f"steps are not captured: {why}")
            else:
                self.captured = CapturedStep(self)

    @property
    def source(self) -> Any:
        """What the loop goes through: batches, or their indices where a captured step gathers them."""
        return self.task.train if self.captured is None else self.captured.source

    def batches(self, given: Any) -> list[Any]:
        return [self.task.train.gather(b) if isinstance(b, mg.Tensor) else b for b in given]

    @property
    def taken(self) -> int:
        """Completed optimizer steps, as far as the host knows: what a schedule goes by."""
        return self.progress.step - self.progress.skipped - (self.scaler.skips - self.known)

    @property
    def unsettled(self) -> bool:
        """Whether steps were made of which nobody has asked yet whether float16 left them out."""
        return self.captured is not None and bool(self.captured.flags)

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

    def plan(self, ahead: int = 0) -> None:
        """Set the learning rates of the n-th step from now."""
        now = self.taken
        for group, at in self.rates:
            group["lr"] = at(max(now, min(now + ahead, self.task.steps - 1)))

    def backward(self, loss: mg.Tensor) -> None:
        self.scaler.scale(loss).backward()  # without float16 the loss is its own

    def step(self, careful: bool = False) -> mg.Tensor | None:
        """One optimizer step on the window; its loss, None if it is known to have been skipped."""
        self.draws = mg.random.default_generator.offset  # what dropout draws from
        captured = None if careful else self.captured
        if captured is None:
            self.window = self.batches(self.window)
        elif self.scaler.is_enabled():
            return captured(self.window).detach()
        if self.scaler.is_enabled():  # the next scale depends on this gradient: it looks at each step
            loss = self.gradient()
            self.scaler.step(self.optimizer, clip=self.c.clip)
            self.scaler.update()
            skipped, self.known = self.scaler.skipped, self.scaler.skips
        else:
            with self.guard.step(careful):
                if captured is not None:
                    loss = captured(self.window)
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


def begun(c: Config, found: training.Found | None) -> Run:
    """A new run, or one that goes on from a checkpoint; what cannot be had ends the program with 2."""
    try:
        run = Run(c, fresh=found is None)
        if found is not None:
            training.restore(run.parts, found.state, found.path)
            if (done := run.progress.step) > run.task.steps:
                raise ValueError(
                    f"--epochs {c.epochs} ends at step {run.task.steps}, {found.path} is after it"
                )
    except (ImportError, OSError, TypeError, ValueError) as error:  # a damaged file, an option that is not
        print(f"train.py: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    parameters = sum(p.numel() for p in run.model.parameters())
    about = f"{c.model} of {parameters:,} parameters on {c.data}: {run.task.sizes}"
    print(f"{about}; {c.optimizer}, {c.device}", flush=True)
    if found is not None:
        for problem in found.problems:
            print(f"passed over: {problem}")
        print(f"going on after step {done:,} of {run.task.steps:,}, {found.path}")
    return run


def train(c: Config, found: training.Found | None, asked: training.Interrupt) -> float:
    """One run; the best score on held-out data, whose weights are in `out`/best.safetensors."""
    run = begun(c, found)
    task, now = run.task, run.progress
    checkpoints = training.Checkpoints(c.folder, c.keep)
    checkpoints.folder.mkdir(parents=True, exist_ok=True)
    if c.lr_find or c.sweep:
        return find(run)
    checkpoints.forget_after(now.step if found is not None else -1)
    if now.weights is not None:
        checkpoints.save_best(now.weights, run.about | dict(step=now.best_step, score=now.best))

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
                now.row = now.row if run.unsettled else 0
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
            if run.captured is not None:
                run.captured.settle()
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
    return finished(run, checkpoints, now.step - first, time.perf_counter() - started)


def finished(run: Run, checkpoints: training.Checkpoints, steps: int, seconds: float) -> float:
    """The score on the test set of the weights that were chosen, and what there is to say."""
    c, task, now = run.c, run.task, run.progress
    with training.at_rest(run.optimizer):
        if now.weights is not None:
            run.judged.load_state_dict(now.weights)
        score = run.score(task.test)
        if now.weights is None:
            checkpoints.save_best(run.weights(), run.about | dict(step=now.step, score=score))
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
    print(f"{task.unit} {task.show(score)} on {c.data}, {c.device}, {steps:,} steps in {seconds:.1f} s")
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
