"""Elementwise kernels: compiled and NumPy machine give the same bits, for every shape, type and call."""

import gc
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import oracle

import kernels
from kernels import Elementwise, machines
from kernels.layers import BIAS_RELU
from kernels.rules import ADAM, SGD

MACHINES = ("compiled", "numpy")
FLOATS = ("float16", "float32", "float64", "bfloat16")

ADD = Elementwise("add", "S a, S b", "S y", "y = T(a) + T(b);")
MIXED = Elementwise(
    "mixed",
    "S a, S b, raw T table, int32 k",
    "S y, T z",
    scalars="lo hi",
    body="""
    T x = T(a) * T(b) - lo;
    T old = z;                                   // z keeps its value where nothing is assigned
    if (x > hi || isnan(x)) {
        x = hi;
        if (b < T(0)) z = x - old; else { T w = sqrt(fabs(x)); z = w; }
    } else if (k >= 0 && table[k] != T(0)) {     // the index is only looked up where it is inside
        z = T(a) / table[k];
    }
    int64 h = (i * 7 + int64(k)) % 5;
    uint32 u = (uint32(i) * 2654435761u) >> 28;
    x += h < 3 ? max(x, T(u)) : min(x, -T(0.25));
    y = k == 2 ? floor(x) + T(n) : x - T(k / 3) + T(k % 3);
""",
)


def dtype(name):
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


def compute(name):
    return np.float64 if name == "float64" else np.float32


def values(shape, name, seed=0):
    """Normal numbers with every special one among them."""
    rng = np.random.default_rng(seed)
    x = np.asarray(rng.normal(size=shape) * 4)
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-7, -6e-8, 65504, 1e30]
    where = rng.random(x.shape) < 0.3
    x[where] = rng.choice(special, size=where.sum())
    with np.errstate(all="ignore"):
        return x.astype(dtype(name))


def same_bits(a, b):
    """Equal to the bit, all nans being one."""
    assert a.dtype == b.dtype and a.shape == b.shape
    with np.errstate(invalid="ignore"):  # of a signalling nan
        a, b = np.asarray(a).astype(np.float64), np.asarray(b).astype(np.float64)
    equal = (a == b) & (np.signbit(a) == np.signbit(b)) | (np.isnan(a) & np.isnan(b))
    assert equal.all(), (a[~equal][:5], b[~equal][:5])


def both(kernel, make, **call):
    """The results of the two machines on arrays made afresh by `make`; every array must agree afterwards."""
    results = []
    for machine in MACHINES:
        with kernels.use(machine):
            arrays = make()
            given = [None if a is None else a.copy() for a in arrays]
            out = kernel(*arrays, **call)
            results.append(
                [*(out if isinstance(out, tuple) else (out,)), *(a for a in arrays if a is not None)]
            )
            for p, before, after in zip(kernel.parameters, given, arrays):
                if not p.output and before is not None:
                    same_bits(before, after)
    for a, b in zip(*results, strict=True):
        same_bits(a, b)
    return results[0]


@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("shape", [(), (1,), (5,), (40000,), (3, 7), (2, 3, 4, 5), (0,), (4, 0, 2)])
def test_machines_agree_to_the_bit_on_branches_indices_and_selection(name, shape):
    def make():
        table = values(4, "float32", 3).astype(compute(name))
        k = np.random.default_rng(4).integers(-1, 4, shape).astype(np.int32)
        z = values(shape, "float32", 5).astype(compute(name))
        return [values(shape, name, 1), values(shape, name, 2), table, np.asarray(k), None, z]

    both(MIXED, make, scalars=dict(lo=0.1, hi=3.0))


@settings(max_examples=60)
@given(st.data())
def test_shapes_broadcast_and_stride_as_numpys(data):
    shape = data.draw(st.lists(st.integers(0, 5), max_size=4).map(tuple))
    name = data.draw(st.sampled_from(("float32", "float16")))

    def operand(seed):
        own = tuple(1 if data.draw(st.booleans()) and data.draw(st.booleans()) else s for s in shape)
        own = own[data.draw(st.integers(0, len(own))) :]
        step = data.draw(st.sampled_from((1, 2, -1)))
        order = data.draw(st.permutations(range(len(own))))
        big = values(tuple(own[d] * abs(step) for d in order), name, seed)
        return np.asarray(big[(slice(None, None, step),) * len(own)]).transpose(np.argsort(order))

    a, b = operand(1), operand(2)
    results = both(ADD, lambda: [a, b])
    with np.errstate(all="ignore"):
        expected = (a.astype(np.float32) + b.astype(np.float32)).astype(name)
    same_bits(results[0], np.asarray(expected))


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("shape", [(300, 70), (3, 5000)])
def test_a_strided_output_is_written_in_place_and_nowhere_else(machine, shape):
    wide = np.full((shape[1], 2 * shape[0]), 7, np.float32)
    out = wide.T[::2]
    a, b = values(shape, "float32", 1), values(shape[1:], "float32", 2)
    with kernels.use(machine):
        assert ADD(a, b, out) is out
    with np.errstate(all="ignore"):
        same_bits(np.ascontiguousarray(out), a + b)
    assert (wide.T[1::2] == 7).all()


@pytest.mark.parametrize("machine", MACHINES)
def test_threads_do_not_change_the_bits(machine):
    a, b = values((3000, 301), "float32", 1), values((3000, 1), "float32", 2)  # three threads' worth
    before = kernels.get_num_threads()
    try:
        with kernels.use(machine):
            results = []
            for n in (1, 2, 3):
                kernels.set_num_threads(n)
                results.append([ADD(a, b), ADD(a, a), ADD(a.T, a.T)])
    finally:
        kernels.set_num_threads(before)
    for other in results[1:]:
        for x, y in zip(results[0], other):
            same_bits(x, y)


@pytest.mark.parametrize("machine", MACHINES)
def test_an_output_may_be_an_input(machine):
    a, b = values(5000, "float32", 1), values(5000, "float32", 2)
    with np.errstate(all="ignore"):
        expected = a + b
    with kernels.use(machine):
        ADD(a, b, a)
    same_bits(a, expected)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("shift", [1, -1, 3])
def test_an_input_that_overlaps_an_output_is_copied_first(machine, shift):
    buffer = values(4000, "float32", 1)
    a, out = (buffer[shift:], buffer[:-shift]) if shift > 0 else (buffer[:shift], buffer[-shift:])
    with np.errstate(all="ignore"):
        expected = a + a
    with kernels.use(machine):
        ADD(a, a, out)
    same_bits(out, expected)


@pytest.mark.parametrize("machine", MACHINES)
def test_a_transposed_self_is_copied_first(machine):
    a = values((30, 30), "float32", 1)
    with np.errstate(all="ignore"):
        expected = a + a.T
    with kernels.use(machine):
        ADD(a, a.T, a)
    same_bits(a, expected)


SWAP = Elementwise("swap", "", "S a, S b", "S old = a; a = b; b = old;")


@pytest.mark.parametrize("machine", MACHINES)
def test_outputs_that_exchange_values_do_so(machine):
    a, b = np.arange(6, dtype=np.float32), np.arange(6, 12, dtype=np.float32)
    with kernels.use(machine):
        SWAP(a, b)
    assert a.tolist() == [6, 7, 8, 9, 10, 11] and b.tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("machine", MACHINES)
def test_overlapping_outputs_raise_and_interleaved_ones_do_not(machine):
    buffer = np.arange(20, dtype=np.float32)
    with kernels.use(machine):
        with pytest.raises(ValueError, match="the outputs 'a' and 'b' overlap"):
            SWAP(buffer[:-1], buffer[1:])
        with pytest.raises(ValueError, match="overlap"):
            SWAP(buffer, buffer)
        SWAP(buffer[::2], buffer[1::2])
    assert buffer[:4].tolist() == [1, 0, 3, 2]


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    ("args", "error", "match"),
    [
        ((np.ones(3, "f4"), np.ones(4, "f4")), ValueError, r"do not broadcast: a \(3,\), b \(4,\)"),
        ((np.ones(3, "f4"), np.ones(3, "f4"), np.ones(4, "f4")), ValueError, r"broadcast"),
        ((np.ones((2, 3), "f4"), np.ones(3, "f4"), np.ones(3, "f4")), ValueError, r"full shape \(2, 3\)"),
        (
            (np.ones(3, "f4"), np.ones(3, "f8")),
            TypeError,
            "'b' is float64, but S is float32 here, because of",
        ),
        ((np.ones(3, "i4"), np.ones(3, "i4")), TypeError, "'a' is int32; S may be float16"),
        ((np.ones(3, ">f4"), np.ones(3, ">f4")), TypeError, "'a' is dtype"),
        ((np.ones(3, "c8"), np.ones(3, "c8")), TypeError, "kernels hold"),
        ((np.ones(3, "f4"), 2.0), TypeError, "'b' is a float, not an array; pass numbers as scalars"),
        ((np.ones(3, "f4"), np.float32(2)), TypeError, "'b' is a float32, not an array"),
        ((np.ones(3, "f4"),), TypeError, "needs the input 'b'"),
        ((), TypeError, "needs the input 'a'"),
        ((np.ones(3, "f4"),) * 4, TypeError, "takes 3 arrays, not 4"),
    ],
)
def test_a_wrong_call_names_the_kernel_and_the_argument(machine, args, error, match):
    with kernels.use(machine):
        ADD(np.ones(3, "f4"), np.ones(3, "f4"))  # the short way is ready, and must refuse as well
        with pytest.raises(error, match=match) as caught:
            ADD(*args)
    assert str(caught.value).startswith("kernel 'add'")


@pytest.mark.parametrize("machine", MACHINES)
def test_a_read_only_output_raises(machine):
    out = np.ones(3, np.float32)
    out.flags.writeable = False
    with kernels.use(machine), pytest.raises(ValueError, match="output 'y' is read-only"):
        ADD(np.ones(3, np.float32), np.ones(3, np.float32), out)


@pytest.mark.parametrize("machine", MACHINES)
def test_unaligned_arrays_work(machine):
    raw = np.zeros(4 * 9 + 1, np.uint8)
    a = raw[1:].view(np.float32)
    a[...] = np.arange(9)
    with kernels.use(machine):
        assert ADD(a, a, a) is a
    assert a.tolist() == [2.0 * k for k in range(9)]


@pytest.mark.parametrize("machine", MACHINES)
def test_an_output_that_is_read_first_must_be_given(machine):
    with kernels.use(machine), pytest.raises(TypeError, match="reads 'p' before it writes it"):
        SGD(np.ones(3, np.float32), scalars=dict.fromkeys(SGD.scalars, 0.1))


SCALE = Elementwise("scale", "S x", "S y", "y = a * T(x) + b;", scalars="a b")


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("scalars", [dict(b=0.1, a=3), [3, 0.1], (3.0, 0.1), np.array([3, 0.1], np.float32)])
def test_scalars_come_by_name_in_order_or_as_an_array(machine, scalars):
    x = np.ones(3, np.float32)
    with kernels.use(machine):
        for _ in range(2):  # the careful way, then the short one
            assert (SCALE(x, scalars=scalars) == np.float32(3) + np.float32(0.1)).all()


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    ("scalars", "error", "match"),
    [
        (None, ValueError, "takes 2 scalars, not 0: a b"),
        ([1.0], ValueError, "takes 2 scalars, not 1"),
        (dict(a=1, c=2), ValueError, "missing: b, unknown: c"),
        (np.ones(2), TypeError, "scalars are float64 on the host, not float32"),
        (np.ones(3, np.float32), ValueError, "3 scalars for a b"),
    ],
)
def test_wrong_scalars_raise(machine, scalars, error, match):
    x = np.ones(3, np.float32)
    with kernels.use(machine):
        SCALE(x, scalars=(1, 2))
        with pytest.raises(error, match=match):
            SCALE(x, scalars=scalars)


def test_scalars_are_rounded_once_to_the_compute_type():
    x = np.ones(3, np.float64)
    for machine in MACHINES:
        with kernels.use(machine):
            assert SCALE(x, scalars=(0.1, 0))[0] == 0.1
            assert SCALE(x.astype("f4"), scalars=(0.1, 0))[0] == np.float32(0.1)


@pytest.mark.parametrize("machine", MACHINES)
def test_an_unused_output_is_dropped_without_its_flag(machine):
    p, g, m, v = (np.full(4, k, np.float32) for k in (1, 2, 0, 0))
    scalars = dict.fromkeys(ADAM.scalars, 0.5)
    with kernels.use(machine):
        for _ in range(2):
            ADAM(g, p.copy(), m.copy(), v.copy(), scalars=scalars)
            ADAM(g, p.copy(), m.copy(), v.copy(), None, scalars=scalars)
            with pytest.raises(TypeError, match="reads 'max_exp_avg_sq' before it writes it"):
                ADAM(g, p, m, v, scalars=scalars, flags=("amsgrad",))


@pytest.mark.parametrize("machine", MACHINES)
def test_free_letters_and_concrete_types(machine):
    pick = Elementwise("pick", "I at, raw A table", "A y, bool big", "A v = table[at]; y = v; big = v > 5;")
    with kernels.use(machine):
        for index in (np.int32, np.int64):
            y, big = pick(np.array([2, 0], index), np.array([4, 5, 6], np.int64))
            assert y.dtype == np.int64 and y.tolist() == [6, 4] and big.tolist() == [True, False]
        with pytest.raises(TypeError, match="nothing says what type"):
            Elementwise("none", "int32 x", "A y", "y = A(x);")(np.ones(2, np.int32))


INTEGERS = Elementwise(
    "integers",
    "int32 a, uint32 b, int64 c, uint8 d",
    "int32 s, uint32 u, int64 w, int64 m, uint32 e, bool t",
    """
    s = a * a + 7;                    // wraps
    u = uint32(a) * b ^ (b >> 3);     // unsigned wins, as in C
    w = c / 7 + (int64(a) << 5);      // towards zero
    m = c % 7 - int64(d) * int64(d);
    e = ~b & 0xffu | uint32(d + d);
    t = a < 0 && !(b > 5u) || c == 3;
    """,
)


def test_integers_follow_c_on_both_machines():
    rng = np.random.default_rng(0)
    arrays = [rng.integers(np.iinfo(t).min, np.iinfo(t).max, 5000, t, True) for t in ("i4", "u4", "i8", "u1")]
    s, u, w, m, *_ = both(INTEGERS, lambda: [a.copy() for a in arrays])
    k = int(np.argmax(arrays[2] < 0))
    a, b, c, d = (int(x[k]) for x in arrays)
    assert w[k] == -(-c // 7) + (a << 5) and m[k] == -(-c % 7) - d * d
    assert int(s[k]) % 2**32 == (a * a + 7) % 2**32 and u[k] == ((a * b) ^ (b >> 3)) % 2**32


@pytest.mark.parametrize("name", ["float32", "float64"])
def test_min_and_max_are_the_selections_they_say(name):
    kernel = Elementwise(
        "extremes",
        "S a, S b",
        "T p, T q, T r, T s",
        "p = max(a, b); q = min(a, b); r = fmax(a, b); s = fmin(a, b);",
    )
    a, b = values(3000, name, 1), values(3000, name, 2)
    p, q, r, s, *_ = both(kernel, lambda: [a, b])
    np.testing.assert_array_equal(p, np.maximum(a, b))
    np.testing.assert_array_equal(q, np.minimum(a, b))
    np.testing.assert_array_equal(r, np.fmax(a, b))
    np.testing.assert_array_equal(s, np.fmin(a, b))


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_every_16_bit_number_is_loaded_and_every_rounding_stored_as_numpy_does(name):
    every = np.arange(65536, dtype=np.uint16).view(dtype(name))
    widen = Elementwise("widen", "S x", "T y", "y = x;")
    narrow = Elementwise("narrow", "T x, S like", "S y", "y = x; if (isnan(T(like))) y = T(0);")
    wide = both(widen, lambda: [every])[0]
    with np.errstate(invalid="ignore"):
        same_bits(wide, every.astype(np.float32))
    bits = np.concatenate(
        [wide.view(np.uint32) + np.int64(k) for k in (-1, 0, 1, 0x0FFF, 0x1000, 0x1001, 0x7FFF, 0x8000)]
    )
    x = bits.astype(np.uint32).view(np.float32)
    like = np.zeros(x.shape, dtype(name))
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        same_bits(both(narrow, lambda: [x, like])[0], x.astype(dtype(name)))


def test_bias_relu_is_fused_and_keeps_nans():
    x, b = values((64, 50), "float32", 1), values(50, "float32", 2)
    y = both(BIAS_RELU, lambda: [x, b])[0]
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(y, np.maximum(x + b, 0))


# -- the rule book ---------------------------------------------------------------------------------------


def trajectory(cls, options, step, steps=60, size=97):
    """A parameter after `steps` random gradients, by torch and by `step(g, p, t)`, in float64."""
    torch = oracle("torch")
    rng = np.random.default_rng(7)
    p = rng.normal(size=size)
    q = torch.nn.Parameter(torch.tensor(p))
    optimizer = cls(torch)([q], foreach=False, **options)
    for t in range(1, steps + 1):
        g = rng.normal(size=size)
        q.grad = torch.tensor(g)
        optimizer.step()
        step(g, p, t)
    return p, q.detach().numpy()


@pytest.mark.oracle
@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("amsgrad", [False, True])
@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("maximize", [False, True])
def test_adam_is_torchs(machine, amsgrad, decoupled, maximize):
    lr, beta1, beta2, eps, decay = 3e-3, 0.9, 0.98, 1e-8, 0.1
    options = dict(
        lr=lr, betas=(beta1, beta2), eps=eps, weight_decay=decay, amsgrad=amsgrad, maximize=maximize
    )
    state = [np.zeros(97) for _ in range(3)]
    chosen = dict(amsgrad=amsgrad, decoupled_weight_decay=decoupled, maximize=maximize)
    flags = tuple(f for f, on in chosen.items() if on)

    def step(g, p, t):
        scalars = dict(
            lr=lr,
            beta1=beta1,
            one_minus_beta1=1 - beta1,
            beta2=beta2,
            one_minus_beta2=1 - beta2,
            eps=eps,
            weight_decay=decay,
            step_size=lr / (1 - beta1**t),
            bias2=1 - beta2**t,
        )
        ADAM(g, p, *state[: 2 + amsgrad], scalars=scalars, flags=flags)

    with kernels.use(machine):
        ours, theirs = trajectory(
            lambda torch: torch.optim.AdamW if decoupled else torch.optim.Adam, options, step
        )
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.oracle
@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize(
    ("momentum", "dampening", "nesterov"), [(0, 0, False), (0.9, 0, False), (0.9, 0.3, False), (0.9, 0, True)]
)
def test_sgd_is_torchs(machine, momentum, dampening, nesterov, maximize):
    options = dict(lr=0.05, momentum=momentum, dampening=dampening, nesterov=nesterov)
    options |= dict(weight_decay=0.1, maximize=maximize)
    buffer = np.zeros(97)
    chosen = dict(momentum=momentum, nesterov=nesterov, maximize=maximize)
    flags = tuple(f for f, on in chosen.items() if on)

    def step(g, p, t):
        scalars = dict(lr=0.05, momentum=momentum, weight_decay=0.1)
        scalars["one_minus_dampening"] = 1.0 if t == 1 else 1 - dampening
        SGD(g, p, *[buffer] * bool(momentum), scalars=scalars, flags=flags)

    with kernels.use(machine):
        ours, theirs = trajectory(lambda torch: torch.optim.SGD, options, step)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("kernel", [SGD, ADAM], ids=lambda k: k.name)
def test_zero_gradient_and_zero_state_move_nothing_even_with_eps_zero(machine, name, kernel):
    scalars = dict.fromkeys(kernel.scalars, 0.5) | (dict(weight_decay=0.0, eps=0.0) if kernel is ADAM else {})
    scalars["weight_decay"] = 0.0
    flags = [(), *((f,) for f in kernel.flags), kernel.flags]
    with kernels.use(machine):
        for chosen in flags:
            p = np.array([0, 1, -3], dtype(name))
            state = [np.zeros(3, compute(name)) for _ in kernel.variant(chosen).outputs[1:]]
            for _ in range(3):
                kernel(np.zeros(3, dtype(name)), p, *state, scalars=scalars, flags=chosen)
            assert p.astype(float).tolist() == [0, 1, -3], chosen
            assert all((s == 0).all() for s in state)


# -- the machine and the call --------------------------------------------------------------------------------


def test_a_call_keeps_nothing_alive():
    a = np.ones(8, np.float32)
    ADD(a, a)
    gc.collect()
    before = sys.getrefcount(a)
    for _ in range(100):
        ADD(a, a)
    assert sys.getrefcount(a) == before


@pytest.mark.parametrize("machine", MACHINES)
def test_subclasses_and_views_give_plain_arrays_of_the_right_value(machine):
    class Sub(np.ndarray):
        pass

    a = np.arange(6, dtype=np.float32).reshape(2, 3)
    with kernels.use(machine):
        assert ADD(a.view(Sub), a).tolist() == (a + a).tolist()
        assert ADD(a[:, 1], a[0, 1:2]).tolist() == [2, 5]


def test_numbers_instead_of_objects_give_the_same(monkeypatch):
    """On a Python with another object layout the pointers travel as numbers."""
    from kernels import compiled

    monkeypatch.setattr(compiled, "layout_known", lambda: False)
    kernel = Elementwise("plain", "S a, S b", "S y", "y = s * T(a) + T(b);", scalars="s")
    a, b = values((5, 300), "float32", 1), values(300, "float32", 2)
    with kernels.use("compiled"), np.errstate(all="ignore"):
        for scalars in (dict(s=2.0), np.array([2], np.float32)):
            for _ in range(2):
                same_bits(kernel(a, b, scalars=scalars), 2 * a + b)
    (machine,) = kernel._machines.values()
    assert machine.short == machine._call_of_numbers


def test_the_number_of_threads_is_checked():
    for wrong in (0, -1, 2.0, True, "2"):
        with pytest.raises(ValueError, match="integer of at least 1"):
            kernels.set_num_threads(wrong)


def test_the_machine_follows_the_environment_and_says_why(monkeypatch):
    monkeypatch.setenv("MINIGRAD_KERNELS", "numpy")
    with kernels.use(None):
        assert kernels.machine() == "numpy" and "MINIGRAD_KERNELS=numpy" in kernels.why()
    monkeypatch.setenv("MINIGRAD_KERNELS", "compiled")
    with kernels.use(None):
        assert kernels.machine() == "compiled" and "the compiled machine serves" in kernels.why()
    monkeypatch.setenv("MINIGRAD_KERNELS", "fast")
    with kernels.use(None), pytest.raises(ValueError, match="may be compiled or numpy"):
        kernels.machine()
    with pytest.raises(ValueError, match="no machine 'gpu'"), kernels.use("gpu"):
        pass
    assert machines.current in (None, *MACHINES)
