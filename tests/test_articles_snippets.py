"""The articles' PyTorch snippets run, with `import minigrad as torch`, and do what they do there.

What they do wrong is done here as well: docs/articles.md tells it. (G) is the guide, (C) the tutorial.
"""

import re
import textwrap
import warnings

import numpy as np
import pytest
from oracle import oracle

import minigrad as mg
from minigrad import optim
from minigrad.optim import schedule

# (C) "Implementation in PyTorch"
MAKING = """
import torch
import torch.nn as nn
import torch.optim as optim

model = nn.Linear(10, 2)
optimizer = optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
optimizer = optim.Adam(model.parameters(), lr=0.001, betas=(0.9, 0.999))
optimizer = optim.AdamW(model.parameters(), lr=0.001, weight_decay=0.01)
scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=10, gamma=0.1)
scheduler = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=100)
"""
LOOP = """
for epoch in range(100):
    for batch in dataloader:
        optimizer.zero_grad()
        loss = model(batch)
        loss.backward()
        optimizer.step()
    scheduler.step()
"""
CLIPPING = """
torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
torch.nn.utils.clip_grad_value_(model.parameters(), clip_value=1.0)
"""
ACCUMULATION = """
accumulation_steps = 4
optimizer.zero_grad()
for i, batch in enumerate(dataloader):
    loss = model(batch)
    (loss / accumulation_steps).backward()
    if (i + 1) % accumulation_steps == 0:
        optimizer.step()
        optimizer.zero_grad()
"""
MIXED = """
from torch.cuda.amp import autocast, GradScaler

scaler = GradScaler()
for batch in dataloader:
    with autocast():
        output = model(batch)
        loss = criterion(output, target)

    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
"""
# (G) "Learning-rate scheduling", its practical recipe
RECIPE = """
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=200, eta_min=1e-5)
for epoch in range(num_epochs):
    train(...)
    scheduler.step()
"""


def run(snippet, lib, scope):
    """A snippet as it stands, but for the name after `import`."""
    text = textwrap.dedent(snippet)
    if lib is mg:
        text = re.sub(r"import torch$", "import minigrad as torch", text, flags=re.M)
        text = re.sub(r"(import|from) torch\.", r"\1 minigrad.", text)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two schedulers, deprecated names, no GPU: both libraries may tell
        exec(text, scope)
    return scope


class Scalar:
    """What the snippets take for a model: a module whose output is the loss."""

    def __new__(cls, lib):
        class Net(lib.nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = lib.nn.Linear(10, 2)

            def forward(self, x):
                return (self.inner(x) ** 2).mean()

        net = Net()
        rng = np.random.default_rng(0)
        with lib.no_grad():
            for p in net.parameters():
                p.copy_(lib.tensor(rng.standard_normal(tuple(p.shape)).astype("float32")))
        return net


def batches(lib, n=10, size=8):
    rng = np.random.default_rng(1)
    return [lib.tensor(rng.standard_normal((size, 10)).astype("float32")) for _ in range(n)]


def both(function):
    """function(lib) in both libraries gives the same arrays."""
    torch = oracle("torch")
    theirs, ours = ([np.asarray(a.detach().numpy()) for a in function(lib)] for lib in (torch, mg))
    assert all(np.allclose(a, b, rtol=2e-4, atol=1e-5) for a, b in zip(ours, theirs, strict=True))


def test_the_tutorials_optimizers_and_schedulers_are_made():
    scope = run(MAKING, mg, {})
    assert type(scope["optimizer"]) is optim.AdamW and scope["torch"] is mg
    assert type(scope["scheduler"]) is optim.lr_scheduler.CosineAnnealingLR


def test_the_tutorials_loop_trains_as_in_pytorch():
    def trained(lib):
        scope = run(MAKING, lib, {})
        scope["model"] = Scalar(lib)
        scope["optimizer"] = lib.optim.AdamW(scope["model"].parameters(), lr=0.01)
        scope["scheduler"] = lib.optim.lr_scheduler.CosineAnnealingLR(scope["optimizer"], T_max=100)
        scope["dataloader"] = batches(lib, 2)
        run(LOOP, lib, scope)
        assert scope["optimizer"].param_groups[0]["lr"] == pytest.approx(0.0, abs=1e-12)
        return list(scope["model"].parameters())

    both(trained)


def test_the_tutorials_loop_as_printed_has_no_loss():
    """nn.Linear(10, 2) gives two numbers an example: backward() refuses, in both libraries."""
    for lib in (oracle("torch"), mg):
        scope = run(MAKING, lib, {})
        scope["dataloader"] = batches(lib)
        with pytest.raises(RuntimeError, match="scalar"):
            run(LOOP, lib, scope)


def test_the_tutorials_clipping_is_pytorchs():
    def clipped(lib):
        model = Scalar(lib)
        (100 * model(batches(lib)[0])).backward()
        run(CLIPPING, lib, {"torch": lib, "model": model})
        return [p.grad for p in model.parameters()]

    both(clipped)


def test_the_tutorials_accumulation_is_pytorchs():
    def trained(lib):
        model = Scalar(lib)
        optimizer = lib.optim.SGD(model.parameters(), lr=0.01)
        run(ACCUMULATION, lib, {"model": model, "optimizer": optimizer, "dataloader": batches(lib)})
        return list(model.parameters())

    both(trained)


def test_the_tutorials_accumulation_loses_the_last_partial_window():
    """Ten batches in fours: two steps, and the gradients of the last two batches are left lying about."""
    model = Scalar(mg)
    optimizer, steps = optim.SGD(model.parameters(), lr=0.01), []
    optimizer.register_step_post_hook(lambda *args: steps.append(1))
    run(ACCUMULATION, mg, {"model": model, "optimizer": optimizer, "dataloader": batches(mg)})
    assert len(steps) == 2 and all(float(p.grad.abs().sum()) > 0 for p in model.parameters())


def test_the_tutorials_mixed_precision_runs():
    def trained(lib):
        model = Scalar(lib)
        optimizer = lib.optim.SGD(model.parameters(), lr=0.01)
        scope = {"model": model, "optimizer": optimizer, "dataloader": batches(lib), "target": None}
        run(MIXED, lib, scope | {"criterion": lambda output, target: output})
        return list(model.parameters())

    both(trained)


def test_the_tutorials_mixed_precision_never_zeroes_the_gradients():
    """So every batch's gradient is added to those of all batches before it."""
    model = Scalar(mg)
    optimizer, norms = optim.SGD(model.parameters(), lr=0.0), []
    optimizer.register_step_post_hook(lambda *args: norms.append(float(model.inner.weight.grad.norm())))
    same = [batches(mg)[0]] * 3
    run(MIXED, mg, dict(model=model, optimizer=optimizer, dataloader=same, target=None,
                        criterion=lambda output, target: output))  # fmt: skip
    assert norms == pytest.approx([norms[0], 2 * norms[0], 3 * norms[0]], rel=1e-3)


def test_the_guides_recipe_runs_once_its_names_are_there():
    p = mg.ones(2, requires_grad=True)
    optimiser, rates = optim.SGD([p], lr=0.1), []

    def train(_):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()

    with pytest.raises(NameError, match="optimiser"):
        run(RECIPE, mg, {"torch": mg})
    run(RECIPE, mg, dict(torch=mg, optimiser=optimiser, num_epochs=300, train=train))
    expected = schedule.cosine(0.1, 200, 1e-5)
    assert rates[:201] == pytest.approx([expected(t) for t in range(201)], abs=1e-12)


def test_the_guides_cosine_climbs_again_after_t_max():
    """Its formula, and PyTorch's class, are periodic: at epoch 400 lr is what it was at first."""
    p = mg.ones(2, requires_grad=True)
    optimizer = optim.SGD([p], lr=0.1)
    scheduler = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=200, eta_min=1e-5)
    rates = [0.1]
    for _ in range(400):
        optimizer.step()
        scheduler.step()
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates[200] == pytest.approx(1e-5) and rates[400] == pytest.approx(0.1)
    assert schedule.cosine(0.1, 200, 1e-5)(400) == 1e-5  # the pure function stays at the floor
