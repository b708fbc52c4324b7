"""The arena: parameters, gradients and state in one buffer each, and nobody can tell but by the launches."""

import gc
import itertools
import weakref

import numpy as np
import pytest

import kernels
import minigrad as mg
from minigrad import autograd, nn, optim
from minigrad.arena import CHUNK

SHAPES = ((5, 3), (), (0,), (1024,), (2, 3, 4), (1025,))
RULES = [
    ("SGD", dict(lr=0.1)),
    ("SGD", dict(lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1, maximize=True)),
    ("Adam", dict(lr=0.1, weight_decay=0.1, amsgrad=True)),
    ("AdamW", dict(lr=0.1, eps=1e-30, maximize=True)),
]


def parameters(rng, dtype="float64", shapes=SHAPES):
    return [mg.Parameter(mg.tensor(np.asarray(rng.normal(size=s)), dtype=dtype)) for s in shapes]


def give(params, grads):
    """Gradients from outside."""
    for p, g in zip(params, grads, strict=True):
        p.grad = None if g is None else mg.tensor(np.asarray(g), dtype=p.dtype)


def backward(params, rng, present=None):
    """Gradients by a backward pass, into the slots, of the parameters that are present."""
    total = mg.zeros((), dtype=params[0].dtype)
    for k, p in enumerate(params):
        if present is None or k in present:
            total = total + (p * mg.tensor(np.asarray(rng.normal(size=p.shape)), dtype=p.dtype)).sum()
    if total.requires_grad:
        total.backward()


def pads(arena, params):
    """Which elements of an arena belong to no parameter."""
    free = np.ones(arena.size, bool)
    for p in params:
        free[p.offset : p.offset + p.array.size] = False
    return free


class Counting:
    """A kernel that notes how many elements each launch has."""

    def __init__(self, kernel):
        self.kernel, self.launches = kernel, []
        self.variant, self.flags, self.parameters = kernel.variant, kernel.flags, kernel.parameters

    def __call__(self, gradient, *rest, **given):
        self.launches.append(gradient.size)
        return self.kernel(gradient, *rest, **given)


def counted(optimizer):
    optimizer.kernel = Counting(optimizer.kernel)
    return optimizer.kernel.launches


# --------------------------------------------------------------------------------------------------- the laws


def test_parameters_become_views_and_keep_values_shapes_and_identity():
    rng = np.random.default_rng(1)
    turned = mg.Parameter(mg.tensor(rng.normal(size=(4, 6))).t()[::2])
    params = [*parameters(rng), turned]
    before = [p.array.copy() for p in params]
    optim.SGD(params)
    (arena,) = {p.arena for p in params}
    for p, values in zip(params, before, strict=True):
        assert p.shape == values.shape and (p.array == values).all()
        assert p.offset % CHUNK == 0 and p.stop % CHUNK == 0 and p.array.flags.c_contiguous
        if p.array.size:
            assert np.shares_memory(p.array, arena.array[p.offset : p.offset + p.array.size])
    assert arena.size == 1024 * (1 + 1 + 0 + 1 + 1 + 2 + 1)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize(("rule", "given"), RULES)
@pytest.mark.parametrize("machine", ["compiled", "numpy"])
def test_pads_stay_zero(rule, given, dtype, machine):
    rng = np.random.default_rng(2)
    with kernels.use(machine):
        params = parameters(rng, dtype)
        optimizer = getattr(optim, rule)(params, **given)
        for _ in range(5):
            optimizer.zero_grad()
            backward(params, rng)
            optimizer.step()
    arena = params[0].arena
    free = pads(arena, params)
    buffers = [arena.array, arena.gradient, *arena.states.get(optimizer, {}).values()]
    assert len(buffers) == 2 + len(optimizer.slots(optimizer.param_groups[0]))
    for buffer in buffers:
        assert not buffer[free].any() and buffer[~free].any()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize(("rule", "given"), RULES)
@pytest.mark.parametrize("machine", ["compiled", "numpy"])
def test_a_step_is_bit_equal_to_a_loop_over_tensors(rule, given, dtype, machine):
    """Also where gradients are missing now and then, and each parameter is at a step of its own."""
    rng = np.random.default_rng(3)
    with kernels.use(machine):
        together = parameters(rng, dtype)
        alone = [mg.Parameter(p.detach().clone()) for p in together]
        one = getattr(optim, rule)(together, **given)
        many = [getattr(optim, rule)([p], **given) for p in alone]
        for _ in range(12):
            grads = [None if rng.random() < 0.3 else rng.normal(size=s) for s in SHAPES]
            give(together, grads)
            give(alone, grads)
            one.step()
            for optimizer in many:
                optimizer.step()
    for p, q, optimizer in zip(together, alone, many, strict=True):
        assert p.array.tobytes() == q.array.tobytes()
        mine, other = one.state[p], optimizer.state[q]
        assert one.steps[p] == optimizer.steps[q]
        for name in other:
            assert np.asarray(mine[name]).tobytes() == np.asarray(other[name]).tobytes()


def test_a_step_is_one_launch_a_group_else_one_a_run_of_equal_steps():
    rng = np.random.default_rng(4)
    params = parameters(rng, shapes=((3,),) * 6)
    optimizer = optim.Adam([{"params": params[:4]}, {"params": params[4:]}])
    launches = counted(optimizer)

    def step(present):
        launches.clear()
        optimizer.zero_grad()
        backward(params, rng, present)
        optimizer.step()
        return [n // CHUNK for n in launches]

    assert step(range(6)) == [4, 2]
    assert step([0, 1, 3, 5]) == [2, 1, 1]
    assert step(range(6)) == [2, 1, 1, 1, 1]  # parameters 2 and 4 are a step behind
    assert step([2, 4]) == [1, 1]
    assert step(range(6)) == [4, 2]  # they have caught up
    assert step([]) == []
    assert [optimizer.steps[p] for p in params] == [4] * 6


def test_a_step_bumps_the_version_once_and_backward_after_it_raises():
    rng = np.random.default_rng(5)
    layer, x = nn.Linear(3, 3), mg.tensor(rng.normal(size=(2, 3)), dtype=mg.float32, requires_grad=True)
    optimizer = optim.SGD([{"params": layer.weight}, {"params": layer.bias}])
    layer(x).sum().backward()
    before = layer.weight._version
    y = layer(x).sum()
    optimizer.step()
    assert layer.weight._version == layer.bias._version == before + 1
    with pytest.raises(RuntimeError, match="modified in place"):
        y.backward()
    optimizer.zero_grad()
    y = layer(x).sum()
    optimizer.step()  # no gradients, no change
    assert layer.weight._version == before + 1
    y.backward()


def test_a_graph_from_before_the_optimizer_sees_its_steps_too():
    p = mg.Parameter(mg.ones(2))
    for _ in range(2):
        p.data.add_(1)
    y, z = (p * p).sum(), (p * p).sum()
    optimizer = optim.SGD([p])
    y.backward()
    assert p.grad.tolist() == [6, 6]
    for _ in range(2):
        optimizer.step()
    with pytest.raises(RuntimeError, match="modified in place"):
        z.backward()


def test_plain_training_leaves_no_cycles_and_keeps_nothing():
    def train():
        model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
        optimizer = optim.Adam(model.parameters(), amsgrad=True)
        for _ in range(3):
            optimizer.zero_grad()
            model(mg.ones(2, 3)).sum().backward()
            optimizer.step()
        optimizer.load_state_dict(optimizer.state_dict())
        model.double()
        return [weakref.ref(t) for t in (optimizer, *model.parameters(), model[0].weight.arena)]

    gc.collect()
    gc.disable()
    try:
        assert [ref() for ref in train()] == [None] * 6
    finally:
        gc.enable()


# -------------------------------------------------------------------------------------------------- gradients


def test_backward_writes_the_first_contribution_straight_into_the_slot(monkeypatch):
    """Into the memory itself: there is nothing left to copy when the gradient is handed over."""
    straight = []

    def spy(leaf, g, filled=autograd.filled):
        straight.append(g.array is leaf.slot.array)
        return filled(leaf, g)

    monkeypatch.setattr(autograd, "filled", spy)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    optimizer = optim.SGD(model.parameters())
    slots = [id(p.slot) for p in model.parameters()]
    for _ in range(2):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(mg.ones(5, 3)), mg.zeros(5, dtype=mg.int64)).backward()
        for p, slot in zip(model.parameters(), slots, strict=True):
            assert id(p.grad) == slot and np.shares_memory(p.grad.array, p.arena.gradient)
    assert straight == [True] * 8


def test_gradients_accumulate_over_backward_calls():
    rng = np.random.default_rng(6)
    housed, free = nn.Linear(4, 3), nn.Linear(4, 3)
    free.load_state_dict(housed.state_dict())
    optimizer = optim.SGD(housed.parameters())
    for x in rng.normal(size=(3, 5, 4)).astype("float32"):
        for layer in (housed, free):
            (layer(mg.tensor(x)) ** 2).sum().backward()
    for p, q in zip(housed.parameters(), free.parameters(), strict=True):
        assert p.grad is p.slot and (p.grad.array == q.grad.array).all()
    optimizer.zero_grad(set_to_none=False)
    for p in housed.parameters():
        assert p.grad is p.slot and not p.grad.array.any()
    optimizer.zero_grad()
    assert housed.weight.grad is None


def test_a_tied_parameter_is_one_slot_and_steps_once_with_the_sum():
    rng = np.random.default_rng(7)
    a, b = nn.Linear(3, 3), nn.Linear(3, 3)
    b.weight = a.weight
    model = nn.Sequential(a, b)
    optimizer = optim.SGD(model.parameters(), lr=0.5)
    assert len(optimizer.parameters()) == 3
    start, x = a.weight.detach().clone(), mg.tensor(rng.normal(size=(2, 3)), dtype=mg.float32)
    first, second = (start.clone().requires_grad_() for _ in range(2))
    F = nn.functional
    F.linear(F.linear(x, first, a.bias.detach()), second, b.bias.detach()).sum().backward()
    model(x).sum().backward()
    optimizer.step()
    assert optimizer.steps[a.weight] == 1 and b.weight is a.weight
    assert mg.allclose(a.weight, start - 0.5 * (first.grad + second.grad))


def test_an_operation_that_takes_a_parameter_twice_gives_both_gradients():
    rng = np.random.default_rng(8)
    w, b = (mg.Parameter(mg.tensor(rng.normal(size=s))) for s in ((3, 3), (3,)))

    def gradients():
        w.grad = b.grad = None
        (nn.functional.linear(w, w, b) ** 2).sum().backward()
        (w @ w + w * w).sum().backward()
        return w.grad.array.copy(), b.grad.array.copy()

    free = gradients()
    optim.SGD([w, b])
    for a, c in zip(free, gradients(), strict=True):
        np.testing.assert_allclose(a, c, rtol=1e-15)


def test_a_gradient_that_is_held_keeps_its_values_when_the_next_one_comes():
    p = mg.Parameter(mg.ones(3))
    optimizer = optim.SGD([p])
    (p * 2).sum().backward()
    held = p.grad
    view = held.detach()
    graph = mg.ones(3, requires_grad=True) * view
    optimizer.zero_grad()
    (p * 5).sum().backward()
    assert held.tolist() == [2, 2, 2] and p.grad.tolist() == [5, 5, 5]
    assert not np.shares_memory(held.array, p.arena.gradient) and p.grad is p.slot
    with pytest.raises(RuntimeError, match="modified in place"):
        graph.sum().backward()  # a view sees the memory change, and says so
    held, p.grad = p.grad, mg.full((3,), 7.0)
    optimizer.step()  # copies the gradient from outside into the slot
    assert held.tolist() == [5, 5, 5] and p.slot.tolist() == [7, 7, 7]
    del held, view
    optimizer.zero_grad()
    slot = id(p.slot)
    p.sum().backward()
    assert id(p.grad) == slot


def test_a_gradient_set_by_hand_stays_the_users_and_counts_at_every_step():
    p, q = (mg.Parameter(mg.zeros(2)) for _ in range(2))
    optimizer = optim.SGD([p, q], lr=1)
    mine = mg.ones(2)
    p.grad, q.grad = mine, None
    optimizer.step()
    assert p.grad is mine and p.tolist() == [-1, -1] and q.tolist() == [0, 0]
    mine.mul_(3)
    q.grad = mine  # the same memory for two
    optimizer.step()
    assert p.tolist() == [-4, -4] and q.tolist() == [-3, -3]
    p.sum().backward()
    assert p.grad is mine and mine.tolist() == [4, 4]


def test_a_gradient_may_overlap_its_slot():
    p = mg.Parameter(mg.zeros(2, 2))
    optimizer = optim.SGD([p], lr=1)
    (p * mg.tensor([[1.0, 2], [3, 4]])).sum().backward()
    p.grad = p.grad.t()
    optimizer.step()
    assert p.tolist() == [[-1, -3], [-2, -4]]


def test_gradients_with_a_graph_stay_outside_and_are_copied_at_the_step():
    p = mg.Parameter(mg.tensor([1.0, 2]))
    optimizer = optim.SGD([p], lr=1)
    (p**3).sum().backward(create_graph=True)
    assert p.grad.requires_grad and p.grad is not p.slot
    (h,) = mg.grad(p.grad.sum(), p, retain_graph=True)
    assert h.tolist() == [6, 12]
    optimizer.step()
    assert p.tolist() == [-2, -10] and not p.slot.requires_grad
    optimizer.zero_grad(set_to_none=False)
    assert p.grad.tolist() == [0, 0] and not p.grad.requires_grad


@pytest.mark.parametrize(
    ("grad", "error", "message"),
    [
        (lambda: mg.ones(3), ValueError, r"grad of 'b' has shape \[3\], the parameter \[2\]"),
        (
            lambda: mg.ones(2, dtype=mg.float64),
            TypeError,
            "grad of 'b' is float64 on cpu, the parameter float32",
        ),
        (
            lambda: np.ones(2),
            TypeError,
            "grad of 'b' is a numpy.ndarray; gradients are dense and real: make it a Tensor",
        ),
    ],
)
def test_a_gradient_that_does_not_fit_raises_and_changes_nothing(grad, error, message):
    a, b = (mg.Parameter(mg.zeros(2)) for _ in range(2))
    optimizer = optim.Adam([{"params": [("a", a)]}, {"params": [("b", b)]}])
    a.grad, b.grad = mg.ones(2), grad()
    with pytest.raises(error, match=message):
        optimizer.step()
    assert a.tolist() == [0, 0] and not optimizer.state and a._version == 0
    optimizer.param_groups[1]["lr"] = "high"
    b.grad = mg.ones(2)
    with pytest.raises(ValueError, match="high"):
        optimizer.step()
    assert a.tolist() == [0, 0] and not optimizer.state


def test_a_list_of_parameters_that_the_user_changes_is_followed():
    p, q = (mg.Parameter(mg.zeros(2)) for _ in range(2))
    optimizer = optim.Adam([p], lr=1)
    optimizer.param_groups[0]["params"].append(q)
    p.grad = q.grad = mg.ones(2)
    optimizer.step()
    optimizer.param_groups[0]["params"].remove(p)
    optimizer.step()
    assert mg.allclose(p, mg.full((2,), -1.0)) and mg.allclose(q, mg.full((2,), -2.0))


# ------------------------------------------------------------------------------- several types and optimizers


def test_several_dtypes_live_in_one_optimizer():
    rng = np.random.default_rng(9)
    names = ("float32", "float64", "float16", "bfloat16", "float32")
    params = [parameters(rng, name, ((7,),))[0] for name in names]
    single = [mg.Parameter(p.detach().float()) for p in params]
    pair = [optim.AdamW(params, lr=0.1), optim.AdamW(single, lr=0.1)]
    launches = counted(pair[0])
    assert len({p.arena for p in params}) == 4
    for t in range(3):
        for p, q in zip(params, single, strict=True):
            g = mg.tensor(rng.normal(size=7), dtype=p.dtype)
            p.grad, q.grad = g, g.float()
        for optimizer in pair:
            optimizer.step()
        assert len(launches) == 4 * (t + 1)
    for p, q, name in zip(params, single, names, strict=True):
        assert p.dtype.name == name
        kept = pair[0].state[p]["exp_avg"].dtype
        assert kept is (mg.float64 if name == "float64" else mg.float32)
        eps = dict(float32=0, float64=1e-6, float16=2e-3, bfloat16=2e-2)[name]
        np.testing.assert_allclose(p.detach().float().array, q.array, rtol=eps, atol=eps)


def test_second_optimizers_work_in_the_same_memory_by_contiguous_runs():
    rng = np.random.default_rng(10)
    params = parameters(rng, shapes=((3,),) * 5)
    copies = [mg.Parameter(p.detach().clone()) for p in params]
    first = optim.SGD(params, lr=0.1, momentum=0.9)
    arena = params[0].arena
    for order, expected in (
        ([0, 1, 2, 3, 4], [5]),
        ([4, 2, 0, 3, 1], [5]),
        ([1, 2, 4], [2, 1]),
        ([3], [1]),
    ):
        second = optim.AdamW([params[k] for k in order], lr=0.1)
        launches = counted(second)
        alone = [optim.AdamW([copies[k]], lr=0.1) for k in order]
        for _ in range(2):
            grads = [rng.normal(size=3) for _ in params]
            give(params, grads)
            give(copies, grads)
            second.step()
            for optimizer in alone:
                optimizer.step()
        assert [n // CHUNK for n in launches] == expected * 2
        assert {p.arena for p in params} == {arena} and len(arena.states) == 1  # the first made no step yet
        for p, q in zip(params, copies, strict=True):
            assert p.array.tobytes() == q.array.tobytes()
        assert not arena.array[pads(arena, params)].any()
        del second, optimizer
        gc.collect()
        assert len(arena.states) == 0  # its state went with it
    first.step()
    assert list(arena.states[first]) == ["momentum_buffer"]


def test_an_optimizer_over_more_than_another_gives_the_rest_an_arena():
    rng = np.random.default_rng(11)
    params = parameters(rng, shapes=((3,),) * 4)
    optim.SGD(params[1:3])
    optimizer = optim.SGD(params, lr=1)
    launches = counted(optimizer)
    assert params[0].arena is params[3].arena is not params[1].arena is params[2].arena
    before = [p.array.copy() for p in params]
    give(params, [np.ones(3)] * 4)
    optimizer.step()
    assert sorted(n // CHUNK for n in launches) == [2, 2]
    assert all((p.array == b - 1).all() for p, b in zip(params, before, strict=True))


def test_gradients_before_the_optimizer_count():
    p = mg.Parameter(mg.zeros(2))
    p.sum().backward()
    optimizer = optim.SGD([p], lr=1)
    p.sum().backward()
    optimizer.step()
    assert p.tolist() == [-2, -2]


def test_every_pattern_of_missing_gradients_updates_what_it_should():
    start = [mg.Parameter(mg.zeros(1)) for _ in range(4)]
    optimizer = optim.SGD(start, lr=1)
    for present in itertools.product((False, True), repeat=4):
        before = [p.item() for p in start]
        give(start, [np.ones(1) if here else None for here in present])
        optimizer.step()
        assert [b - p.item() for p, b in zip(start, before, strict=True)] == list(map(float, present))
