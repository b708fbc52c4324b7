"""The public face at the edges that torch's own test data found: types, clear refusals, names in messages."""

import numpy as np
import pytest
from oracle import oracle

import minigrad as mg
import minigrad.nn.functional as F

TYPES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64")


def same(ours, theirs):
    assert ours.dtype.name == str(theirs.dtype).removeprefix("torch.")
    np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


@pytest.mark.oracle
@pytest.mark.parametrize("wanted", TYPES)
@pytest.mark.parametrize("given", TYPES)
@pytest.mark.parametrize("name", ["sum", "nansum", "prod", "cumsum"])
def test_the_dtype_asked_of_a_sum_is_the_dtype_of_the_result(name, given, wanted):
    torch = oracle("torch")
    args = (0,) if name == "cumsum" else ()

    def run(m):
        x = m.tensor([[1, 0], [2, 1]]).to(getattr(m, given))
        return getattr(x, name)(*args, dtype=getattr(m, wanted))

    try:
        theirs = run(torch)
    except (RuntimeError, NotImplementedError):
        theirs = None  # torch has no kernel for the pair
    ours = run(mg)
    assert ours.dtype is getattr(mg, wanted)
    if theirs is not None:
        same(ours, theirs)


@pytest.mark.oracle
@pytest.mark.parametrize("include_self", [True, False])
@pytest.mark.parametrize("reduce", ["amax", "amin"])
def test_extremes_of_bools_by_index(reduce, include_self):
    torch = oracle("torch")
    rng = np.random.default_rng(0)
    x, source, index = rng.random((9, 4)) < 0.5, rng.random((5, 4)) < 0.5, rng.integers(0, 5, (5, 4))

    def run(m):
        return m.tensor(x).scatter_reduce(
            0, m.tensor(index), m.tensor(source), reduce, include_self=include_self
        )

    same(run(mg), run(torch))


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["int32", "uint8", "int64"])
@pytest.mark.parametrize("include_self", [True, False])
def test_the_mean_of_integers_by_index_has_their_dtype(name, include_self):
    torch = oracle("torch")

    def run(m):
        x, source = (m.tensor(a).to(getattr(m, name)) for a in ([[5, 7, 9]], [[4, 3, 3]]))
        return x.scatter_reduce(1, m.tensor([[0, 0, 1]]), source, "mean", include_self=include_self)

    same(run(mg), run(torch))


@pytest.mark.oracle
def test_spaces_of_integers_start_and_end_at_whole_numbers():
    torch = oracle("torch")
    for start, end, steps in ((4.3, -3, 50), (-2.7, 8.9, 7), (0, 1.2, 2), (3, 3, 1)):
        same(
            mg.linspace(start, end, steps, dtype=mg.int64),
            torch.linspace(start, end, steps, dtype=torch.int64),
        )
    same(mg.logspace(0, 1.2, 4, dtype=mg.int64), torch.logspace(0, 1.2, 4, dtype=torch.int64))


@pytest.mark.oracle
def test_full_wraps_integers_around_and_takes_numbers_as_tensors():
    torch = oracle("torch")
    for m in (mg, torch):
        assert m.full_like(m.tensor([1], dtype=m.uint8), -9).tolist() == [247]
    same(mg.full((2,), mg.tensor(3)), torch.full((2,), torch.tensor(3)))


@pytest.mark.oracle
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("log_input", [False, True])
def test_losses_of_whole_numbers_are_float32(full, log_input):
    torch = oracle("torch")
    args = dict(full=full, log_input=log_input, reduction="none")
    x, y = [1, 2, 5], [1, 3, 2]
    ours = F.poisson_nll_loss(mg.tensor(x), mg.tensor(y), **args)
    theirs = torch.nn.functional.poisson_nll_loss(torch.tensor(x), torch.tensor(y), **args)
    assert ours.dtype is mg.float32
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-6)
    ours = F.margin_ranking_loss(mg.tensor(x), mg.tensor(y), mg.tensor([1, -1, 1]))
    theirs = torch.nn.functional.margin_ranking_loss(
        torch.tensor(x), torch.tensor(y), torch.tensor([1, -1, 1])
    )
    assert ours.dtype is mg.float32 and ours.item() == pytest.approx(theirs.item(), rel=1e-6)


@pytest.mark.oracle
@pytest.mark.parametrize("shape, dim", [((0,), 0), ((3, 0), 1), ((3, 0), 0)])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_the_softmax_of_nothing_is_nothing(name, shape, dim):
    torch = oracle("torch")
    for function in (lambda m: getattr(m, name), lambda m: getattr(m.nn.functional, name)):
        same(function(mg)(mg.zeros(shape), dim=dim), function(torch)(torch.zeros(shape), dim=dim))


@pytest.mark.oracle
def test_divergence_from_what_is_no_probability_is_nan():
    torch = oracle("torch")
    x, t = [-0.5, -1.0, -2.0, -3.0], [-0.1, 0.0, 0.4, float("nan")]
    ours = F.kl_div(mg.tensor(x), mg.tensor(t), reduction="none")
    np.testing.assert_allclose(
        ours.numpy(),
        torch.nn.functional.kl_div(torch.tensor(x), torch.tensor(t), reduction="none").numpy(),
        rtol=1e-6,
    )


def test_shapes_in_place_keep_the_memory_and_what_a_graph_needs():
    x = mg.ones(2, 3)
    memory = x.array
    assert x.unsqueeze_(0) is x and tuple(x.shape) == (1, 2, 3)
    assert tuple(x.squeeze_().t_().shape) == (3, 2)
    assert np.shares_memory(x.array, memory)
    p = mg.ones(2, 3, requires_grad=True)
    with pytest.raises(RuntimeError, match="unsqueeze_: a leaf"):
        p.unsqueeze_(0)
    y = p * 2
    z = y * y
    y.t_()
    with pytest.raises(RuntimeError, match="modified in place"):
        z.sum().backward()


INTS = mg.arange(6).reshape(2, 3)
REFUSED = {
    "arange to infinity": (lambda: mg.arange(0, float("inf")), ValueError, "arange: .*inf"),
    "linspace of half a step": (lambda: mg.linspace(0, 1, 2.5), TypeError, "linspace: steps = 2.5"),
    "linspace from a vector": (lambda: mg.linspace(mg.ones(2), 1, 3), ValueError, r"linspace: .*\[2\]"),
    "full of nothing": (lambda: mg.full((2,), "a"), TypeError, "full: str"),
    "isclose to a number": (lambda: mg.isclose(INTS, 2), TypeError, "isclose: int"),
    "rot90 in one dim": (lambda: mg.rot90(INTS, 1, (0,)), ValueError, "rot90: dims"),
    "narrow from a vector": (lambda: mg.narrow(INTS, 0, mg.tensor([0]), 1), TypeError, "narrow: start"),
    "narrow from a bool": (lambda: mg.narrow(INTS, 0, mg.tensor(True), 1), TypeError, "narrow: start"),
    "aminmax of nothing": (lambda: mg.aminmax(mg.zeros(0)), ValueError, "aminmax: no element"),
    "dot of two sizes": (lambda: mg.dot(mg.ones(2), mg.ones(3)), ValueError, "dot: .*2 and 3"),
    "a part of an integer": (
        lambda: mg.addmv(mg.arange(2), INTS, mg.arange(3), beta=0.2),
        TypeError,
        "addmv: beta = 0.2 for int64",
    ),
    "poisson_nll_loss of two shapes": (
        lambda: F.poisson_nll_loss(mg.ones(5), mg.ones(5, 4)),
        ValueError,
        r"poisson_nll_loss: input \[5\], target \[5, 4\]",
    ),
    "l1_loss of two shapes": (lambda: F.l1_loss(mg.ones(5, 4), mg.ones(5)), ValueError, "l1_loss: input"),
    "triplet_margin_loss of two shapes": (
        lambda: F.triplet_margin_loss(mg.ones(3, 5), mg.ones(3, 4), mg.ones(3, 5)),
        ValueError,
        r"triplet_margin_loss: anchor \[3, 5\], positive \[3, 4\]",
    ),
    "probabilities to ignore": (
        lambda: F.cross_entropy(mg.ones(2, 3), mg.ones(2, 3), ignore_index=1),
        ValueError,
        "cross_entropy: ignore_index=1 for probabilities",
    ),
    "an LSTM of nothing": (lambda: mg.nn.LSTM(0, 5), ValueError, "LSTM: input_size=0"),
    "a GRU with a layer for a bias": (lambda: mg.nn.GRU(3, 5, bias=2), TypeError, "GRU: bias=2"),
    "two ellipses": (lambda: INTS[..., ...], IndexError, "indexing: more than one Ellipsis"),
    "a write to two ellipses": (
        lambda: INTS.__setitem__((..., ...), 0),
        IndexError,
        "indexing: more than one Ellipsis",
    ),
    "a list with a slice": (lambda: INTS[[slice(0, 1), 1]], IndexError, "indexing: a list of numbers"),
    "a list of words": (lambda: INTS[["a"]], IndexError, "indexing: a list of numbers"),
    "a ragged list": (lambda: INTS[[[0, 1], [1]]], IndexError, "indexing: a list with parts"),
    "pinv bounded twice": (lambda: mg.linalg.pinv(mg.eye(2), 0.1, rtol=0.1), TypeError, "pinv: .*not both"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_say_what_is_wrong(case):
    call, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("name", ["exp", "add", "lt", "logical_and", "round", "float", "clone", "cumsum"])
def test_an_unknown_keyword_is_refused_under_the_name_the_user_called(name):
    function = getattr(mg.Tensor, name)
    with pytest.raises(TypeError, match=rf"^{name}\(\) got an unexpected keyword argument 'out'"):
        function(mg.ones(2), out=mg.ones(2))


def test_every_function_is_called_in_messages_what_the_user_calls_it():
    from minigrad.public.register import EXPORTS

    known = {**EXPORTS, **{k: v for k, v in vars(mg.Tensor).items() if not k.startswith("__")}}
    hidden = [k for k, f in known.items() if "<locals>" in getattr(f, "__qualname__", "")]
    assert not hidden
