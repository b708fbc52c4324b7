"""Parameters in an arena that move, are filled, copied and pickled; the optimizer that goes on, or goes."""

import copy
import pickle
import weakref

import fake_cupy
import numpy as np
import pytest
from test_arena import counted, pads

import minigrad as mg
from minigrad import nn, optim
from minigrad.arena import CHUNK


def trained(dtype=mg.float32, steps=3, rule=optim.Adam):
    mg.manual_seed(1)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    model.to(dtype)
    optimizer = rule(model.parameters(), lr=0.05)
    for _ in range(steps):
        train_step(model, optimizer)
    return model, optimizer


def train_step(model, optimizer, where="cpu"):
    rng = np.random.default_rng(optimizer.steps[model[0].weight])
    x = mg.tensor(rng.normal(size=(5, 3)), dtype=model[0].weight.dtype, device=where)
    optimizer.zero_grad()
    (model(x) ** 2).sum().backward()
    optimizer.step()


def same(model, other):
    return all(
        p.array.tobytes() == q.array.tobytes()
        for p, q in zip(model.parameters(), other.parameters(), strict=True)
    )


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_to_another_dtype_moves_gradients_and_state_and_training_goes_on(dtype):
    """As a fresh model and optimizer of that dtype would that loaded both states."""
    model, optimizer = trained()
    params, old = list(model.parameters()), model[0].weight.arena
    loss = model(mg.ones(2, 3)).sum()
    model.to(getattr(mg, dtype))
    assert all(p is q for p, q in zip(params, model.parameters(), strict=True))
    (arena,) = {p.arena for p in params}
    assert arena is not old and {p.dtype.name for p in params} == {dtype}
    assert all(p.grad is p.slot and p.grad.dtype is p.dtype and p.grad.array.any() for p in params)
    with pytest.raises(RuntimeError, match="modified in place"):
        loss.backward()
    fresh, other = trained(getattr(mg, dtype), 0)
    fresh.load_state_dict(model.state_dict())
    other.load_state_dict(optimizer.state_dict())
    launches = counted(optimizer)
    for _ in range(3):
        train_step(model, optimizer)
        train_step(fresh, other)
    assert same(model, fresh) and optimizer.steps[params[0]] == 6 and len(launches) == 3
    assert not arena.array[pads(arena, params)].any()


def test_moving_keeps_the_groups_together():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    groups = [[p for p in model.parameters() if p.ndim == n] for n in (2, 1)]
    optimizer = optim.SGD([{"params": g} for g in groups])
    launches = counted(optimizer)
    train_step(model, optimizer)
    model.double()
    train_step(model, optimizer)
    assert [n // CHUNK for n in launches] == [2, 2] * 2


def test_moving_a_part_leaves_the_rest_where_it_is():
    model, optimizer = trained()
    moments = {p: optimizer.state[p]["exp_avg"].array.copy() for p in model.parameters()}
    old = model[0].weight.arena
    model[2].double()
    assert model[0].weight.arena is old and model[0].weight.dtype is mg.float32
    assert model[2].weight.arena is model[2].bias.arena is not old
    for p, m in moments.items():
        assert (optimizer.state[p]["exp_avg"].array == m).all() and optimizer.steps[p] == 3
    launches = counted(optimizer)
    for p in model.parameters():
        p.grad = mg.ones_like(p)
    optimizer.step()
    assert len(launches) == 2


def test_moving_takes_the_state_of_every_optimizer_and_a_gradient_from_outside():
    p = mg.Parameter(mg.ones(3))
    first, second = optim.SGD([p], momentum=0.5), optim.Adam([p])
    p.grad = mine = mg.full((3,), 2.0)
    first.step()
    second.step()
    nn.ParameterList([p]).double()
    assert first.state[p]["momentum_buffer"].tolist() == [2, 2, 2]
    assert second.state[p]["exp_avg"].dtype is mg.float64
    assert p.grad is mine and mine.dtype is mg.float64
    first.step()
    assert first.state[p]["momentum_buffer"].tolist() == [3, 3, 3]


def test_to_a_gpu_and_back_with_the_optimizer_alive():
    """A fake GPU, whose arithmetic is NumPy's: the same numbers as without the excursion."""
    stayed, reference = trained(steps=4)
    with fake_cupy.installed() as device:
        model, optimizer = trained(steps=2)
        model.to("cuda")
        assert {str(p.device) for p in model.parameters()} == {"cuda:0"}
        assert {str(p.grad.device) for p in model.parameters()} == {"cuda:0"}
        assert str(optimizer.state[model[0].weight]["exp_avg"].device) == "cuda:0"
        train_step(model, optimizer, "cuda")
        with device.counting() as count:
            train_step(model, optimizer, "cuda")
        assert count.launches["adam"] == 1 and not count.host_reads
        saved = optimizer.state_dict()
        model.to("cpu")
        optimizer.load_state_dict(saved)  # of tensors on the GPU, into an optimizer on the CPU
        assert str(optimizer.state[model[0].weight]["exp_avg"].device) == "cpu"
    for _ in range(2):
        train_step(model, optimizer)
        train_step(stayed, reference)
    for p, q in zip(model.parameters(), stayed.parameters(), strict=True):
        np.testing.assert_allclose(p.array, q.array, rtol=1e-5)


def test_values_are_copied_in_wherever_they_come_from():
    model, optimizer = trained()
    arena, version = model[0].weight.arena, model[0].weight._version
    other, _ = trained(steps=0)
    changes = (
        lambda p: model.load_state_dict(other.state_dict()),
        lambda p: setattr(p, "data", mg.full(p.shape, 3.0)),
        lambda p: p.data.add_(1),
        lambda p: p.data.copy_(mg.full(p.shape, 5.0)),
        nn.init.normal_,
        nn.init.zeros_,
        lambda p: nn.utils.vector_to_parameters(mg.ones(p.numel()), [p]),
    )
    for change in changes:
        p = model[0].weight
        before = p.array.copy()
        change(p)
        assert (p.array != before).any() and p.arena is arena and p._version > version
        assert (arena.array[p.offset : p.offset + p.numel()] == p.array.ravel()).all()
        version = p._version
    train_step(model, optimizer)
    assert (arena.array[p.offset : p.offset + p.numel()] == p.array.ravel()).all() and p.array.any()


@pytest.mark.parametrize(
    "how", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"]
)
def test_copies_are_free_of_the_arena_and_train_on_alike(how):
    model, optimizer = trained()
    lonely = how(model)
    assert all(p.arena is None and p.slot is None and p.requires_grad for p in lonely.parameters())
    assert same(model, lonely)
    twin, other = how((model, optimizer))
    assert all(p is q for p, q in zip(twin.parameters(), other.parameters(), strict=True))
    assert twin[0].weight.arena is not model[0].weight.arena
    for _ in range(3):
        train_step(model, optimizer)
        train_step(twin, other)
    assert same(model, twin) and not same(model, lonely)
    assert len(pickle.dumps(model)) < 5000  # the values, and not the arena once for each


def test_the_optimizer_goes_and_a_new_one_starts_afresh():
    model, optimizer = trained()
    arena, gone = model[0].weight.arena, weakref.ref(optimizer)
    assert len(arena.states) == 1
    del optimizer
    assert gone() is None and len(arena.states) == 0
    optimizer = optim.Adam(model.parameters())
    assert not optimizer.state and model[0].weight.arena is arena
    train_step(model, optimizer)
    assert optimizer.steps[model[0].weight] == 1
