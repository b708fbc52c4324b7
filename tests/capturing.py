"""Steps to be captured, on a GPU that is not there: models, batches, loops, and what must be the same.

The fake device (tests/fake_cupy) refuses host reads, uploads, waits, pool growth and new kernels within a
capture; a replay works on the same memory, which pools really hand out again.
"""

import contextlib

import fake_cupy
import numpy as np
from fake_cupy import cublas

import minigrad as mg
from minigrad import nn, optim
from minigrad.nn import functional as F
from models import GPT, MLP, GPTConfig, SmallCNN


@contextlib.contextmanager
def fake_device():
    """A GPU, and no reason yet why a step runs eagerly."""
    mg.graph._reasons.clear()
    cublas.refusals.clear()
    with fake_cupy.installed() as device:
        yield device
        assert cublas.refusals == []


class Dropping(nn.Module):
    """An MLP with dropout between its layers."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.drop = nn.Linear(12, 16), nn.Linear(16, 5), nn.Dropout(0.3)

    def forward(self, x):
        return self.second(self.drop(F.relu(self.first(x))))


def gpt(dropout=0.0, layers=2, context=8):
    return GPT(GPTConfig(11, context, layers, heads=2, width=8, dropout=dropout, bias=False, tied=True))


def text_loss(model, x, y):
    return F.cross_entropy(model(x).flatten(0, 1), y.flatten())


def image_loss(model, x, y):
    return F.cross_entropy(model(x), y)


PROBLEMS = {
    "mlp": (lambda: MLP([12, 16, 5]), image_loss, (12,), 5),
    "dropout": (Dropping, image_loss, (12,), 5),
    "cnn": (lambda: SmallCNN(1, 8, 5, (3, 4), dropout=0.2), image_loss, (1, 8, 8), 5),
    "gpt": (lambda: gpt(0.1), text_loss, None, 11),
    "gpt without dropout": (gpt, text_loss, None, 11),
}


def problem(name, examples=64):
    """model, loss, inputs, targets on the device."""
    make, loss, shape, classes = PROBLEMS[name]
    mg.manual_seed(1)
    model, rng = make().to("cuda"), np.random.default_rng(2)
    if shape is None:
        x, y = (mg.tensor(rng.integers(0, classes, (examples, 8))).to("cuda") for _ in range(2))
    else:
        x = mg.tensor(rng.standard_normal((examples, *shape)).astype("f4")).to("cuda")
        y = mg.tensor(rng.integers(0, classes, examples)).to("cuda")
    return model, loss, x, y


def plain(model, loss_of, optimizer):
    def step(*batch):
        optimizer.zero_grad()
        loss = loss_of(model, *batch)
        loss.backward()
        optimizer.step()
        return loss

    return step


def trained(name, capture, steps=50, rule=optim.AdamW, sizes=(8,), scheduled=True, clip=1.0, **options):
    """(losses, weights and buffers, the optimizer's state, the captured function or None)"""
    model, loss_of, x, y = problem(name)
    optimizer = rule(model.parameters(), **{"lr": 1e-2} | options)
    cosine = optim.lr_scheduler.CosineAnnealingLR(optimizer, steps) if scheduled else None

    def step(x, y):
        optimizer.zero_grad()
        loss = loss_of(model, x, y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        return loss

    run = mg.graph.capture(step) if capture else step
    losses, at = [], 0
    for k in range(steps):
        size = sizes[k % len(sizes)]
        losses.append(run(x[at : at + size], y[at : at + size]))
        at = (at + size) % 48
        if cosine is not None:
            cosine.step()
    state = {n: t.cpu().numpy() for n, t in model.state_dict().items()}
    held = optimizer.state_dict()["state"]
    return [float(loss) for loss in losses], state, held, run if capture else None


def host(value):
    return value.cpu().numpy() if isinstance(value, mg.Tensor) else value


def same(eager, captured):
    assert eager[0] == captured[0]
    assert all(np.array_equal(a, captured[1][n]) for n, a in eager[1].items())
    for k, slots in eager[2].items():
        assert all(np.array_equal(host(v), host(captured[2][k][n])) for n, v in slots.items())


def nodes(run):
    (made,) = [entry.made for entry in run.entries.values() if entry.made is not None]
    return fake_cupy.cuda.nodes(made)


def captured_step(model, loss_of, batch, optimizer, clip=None):
    def step(*batch):
        optimizer.zero_grad()
        loss = loss_of(model, *batch)
        loss.backward()
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        return loss

    run = mg.graph.capture(step)
    for _ in range(4):
        run(*batch)
    assert run.why == ""
    return nodes(run)
