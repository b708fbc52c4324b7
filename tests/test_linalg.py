"""Products and linear algebra, beside the sample table: any einsum, what is refused, types, a device."""

import fake_cupy
import numpy as np
import pytest
import test_ops
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import oracle
from samples import linalg as samples

import minigrad as mg
from minigrad.public.einsum import einsum

# ------------------------------------------------------------------------------------------------- einsum


@st.composite
def equations(draw):
    """An equation over up to four letters and an ellipsis, and the shapes of its operands."""
    sizes = {letter: draw(st.integers(1, 3)) for letter in "abcD"}
    dots = draw(st.lists(st.integers(1, 2), max_size=2))
    inputs, shapes = [], []
    for _ in range(draw(st.integers(1, 3))):
        letters = draw(st.lists(st.sampled_from("abcD"), max_size=3))
        at = draw(st.none() | st.integers(0, len(letters)))
        text, shape = "".join(letters), [sizes[n] for n in letters]
        if at is not None:
            hidden = dots[draw(st.integers(0, len(dots))) :]
            text = text[:at] + "..." + text[at:]
            shape[at:at] = [draw(st.sampled_from([1, n])) for n in hidden]
        inputs.append(text)
        shapes.append(tuple(shape))
    equation = ",".join(inputs)
    if draw(st.booleans()):
        used = sorted({n for text in inputs for n in text} - {"."})
        output = draw(st.lists(st.sampled_from(used), unique=True)) if used else []
        text = "".join(output)
        if "..." in equation:
            at = draw(st.integers(0, len(text)))
            text = text[:at] + "..." + text[at:]
        equation += "->" + text
    return equation, shapes


@pytest.mark.oracle
@settings(max_examples=300)
@given(equations(), st.integers(0, 2**32 - 1))
def test_any_einsum_is_torchs(drawn, seed):
    torch = oracle("torch")
    equation, shapes = drawn
    rng = np.random.default_rng(seed)
    arrays = [rng.standard_normal(s) for s in shapes]
    weights = rng.standard_normal(10_000)

    def compute(m, function):
        xs = [m.tensor(a).requires_grad_() for a in arrays]
        y = function(equation, *xs)
        y.backward(m.tensor(weights[: int(np.prod(y.shape))].reshape(tuple(y.shape))))
        return [y.detach().numpy(), *[x.grad.numpy() for x in xs]]

    for ours, theirs in zip(compute(mg, einsum), compute(torch, torch.einsum), strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-12)


def test_einsum_contracts_by_matrix_products():
    """A chain goes through its small middle, not through an outer product of everything."""
    a, b, c = mg.ones(300, 2), mg.ones(2, 300), mg.ones(300, 2)
    assert mg.einsum("ij,jk,kl->il", a, b, c).tolist()[0] == [600.0, 600.0]
    wide = mg.ones(1000, 1000)
    assert mg.einsum("ij,jk,k->i", wide, wide, mg.ones(1000))[0].item() == 1e6


EINSUM_REFUSED = {
    "count": ("ij,jk->ik", [(2, 3)], "names 2 operands, there are 1"),
    "rank": ("ij->i", [(2, 3, 4)], "'ij' does not fit an operand of 3 dims"),
    "rank below": ("ijk->i", [(2, 3)], "'ijk' does not fit an operand of 2 dims"),
    "sizes": ("ij,jk->ik", [(2, 3), (4, 2)], "'j' stands for sizes 3 and 4"),
    "diagonal": ("ii->i", [(2, 3)], "'i' stands for sizes 2 and 3 of one operand"),
    "ellipsis sizes": ("...,...->...", [(2,), (3,)], "'...' stands for sizes 2 and 3"),
    "output letter": ("ij->ik", [(2, 3)], "output 'k' does not occur"),
    "output twice": ("ij->ii", [(2, 3)], "a letter occurs twice in the output"),
    "no letter": ("i1->i", [(2, 3)], "'1' is no letter"),
    "dot": ("i.j->i", [(2, 3)], "'.' is no letter"),
    "no operands": ("->", [], "no operands"),
}


@pytest.mark.parametrize("case", EINSUM_REFUSED)
def test_what_einsum_refuses(case):
    equation, shapes, text = EINSUM_REFUSED[case]
    with pytest.raises(ValueError) as caught:
        mg.einsum(equation, *[mg.ones(s) for s in shapes])
    assert text in str(caught.value) and "einsum" in str(caught.value)
    torch = oracle("torch")
    with pytest.raises((RuntimeError, ValueError)):
        torch.einsum(equation, *[torch.ones(s) for s in shapes])


# ----------------------------------------------------------------------------------------- refusals and types

A, B, V = mg.ones(2, 3), mg.ones(4, 5), mg.ones(3)

REFUSED = {
    "matmul sizes": (
        lambda: A @ B,
        ValueError,
        r"matmul: float32\[2, 3\] and float32\[4, 5\]: .*3 and 4 differ",
    ),
    "matmul vector": (lambda: A @ mg.ones(2), ValueError, "inner sizes 3 and 2 differ"),
    "matmul batch": (lambda: mg.ones(2, 3, 4) @ mg.ones(3, 4, 5), ValueError, "matmul.*broadcast"),
    "matmul number": (lambda: A @ mg.ones(()), ValueError, "at least one dim, use \\*"),
    "matmul dtypes": (
        lambda: A @ V.double(),
        TypeError,
        r"float32\[2, 3\] and float64\[3\];.*\.to\(minigrad.float32\)",
    ),
    "matmul int": (lambda: A @ V.long(), TypeError, "must have one dtype"),
    "matmul array": (lambda: A @ np.ones(3), TypeError, "ndarray is no Tensor"),
    "matmul bools": (lambda: (A > 0) @ (V > 0), TypeError, "bools have no product"),
    "mm rank": (lambda: mg.mm(A, V), ValueError, r"mm: mat2 is float32\[3\]; it must be a matrix"),
    "mv rank": (lambda: mg.mv(A, A), ValueError, "vec is .*must be a vector"),
    "bmm rank": (lambda: mg.bmm(A, A), ValueError, "must be a batch of matrices"),
    "bmm batch": (lambda: mg.bmm(mg.ones(1, 2, 3), mg.ones(2, 3, 2)), ValueError, "the batch sizes differ"),
    "dot rank": (lambda: mg.dot(A, V), ValueError, "dot: input .*vector"),
    "dot sizes": (lambda: mg.dot(V, mg.ones(4)), ValueError, "inner sizes 3 and 4 differ"),
    "dot dtypes": (lambda: V.dot(V.double()), TypeError, "dot: .*one dtype"),
    "addmm dtypes": (lambda: mg.addmm(V.double(), A, A.t()), TypeError, "addmm: .*one dtype"),
    "einsum dtypes": (lambda: mg.einsum("i,i", V, V.double()), TypeError, "einsum: .*one dtype"),
    "tensordot dims": (lambda: mg.tensordot(A, B, 3), ValueError, "tensordot: dims=3"),
    "tensordot sizes": (lambda: mg.tensordot(A, B, ([0], [0])), ValueError, "inner sizes 2 and 4 differ"),
    "tensordot pairs": (lambda: mg.tensordot(A, B, ([0, 1], [0])), ValueError, "as many dims of a as of b"),
    "multi_dot one": (lambda: mg.linalg.multi_dot([A]), ValueError, "two or more"),
    "multi_dot sizes": (lambda: mg.linalg.multi_dot([A, B, B]), ValueError, "3 and 4 differ"),
    "cross sizes": (lambda: mg.linalg.cross(B, B), ValueError, "dim -1 must have size 3"),
    "cross none": (lambda: mg.cross(B, B), ValueError, "no dim of .* has size 3"),
    "trace rank": (lambda: mg.trace(V), ValueError, "trace: input .*matrix"),
    "cdist": (lambda: mg.cdist(A, B), ValueError, "inner sizes 3 and 5 differ"),
    "cdist p": (lambda: mg.cdist(A, A, p=-1.0), ValueError, "p=-1.0"),
    "inv rectangular": (lambda: mg.linalg.inv(A), ValueError, r"inv: the matrices must be square.*\(2, 3\)"),
    "inv vector": (lambda: mg.linalg.inv(V), ValueError, r"inv: .*\(3,\) is no matrix"),
    "inv half": (lambda: mg.linalg.inv(mg.ones(2, 2).half()), TypeError, r"float16 matrices.*\.float\(\)"),
    "inv int": (lambda: mg.linalg.inv(mg.eye(2).long()), TypeError, "int64 matrices"),
    "inv singular": (
        lambda: mg.linalg.inv(mg.ones(2, 2)),
        ValueError,
        r"inv\(float32\[2, 2\]\): Singular matrix",
    ),
    "solve singular": (lambda: mg.linalg.solve(mg.ones(2, 2), mg.ones(2)), ValueError, "solve.*Singular"),
    "solve sizes": (lambda: mg.linalg.solve(mg.eye(2), V), ValueError, "inner sizes 2 and 3 differ"),
    "solve right vector": (
        lambda: mg.linalg.solve(mg.eye(2), mg.ones(2), left=False),
        ValueError,
        "left=False needs",
    ),
    "cholesky indefinite": (
        lambda: mg.linalg.cholesky(-mg.eye(2)),
        ValueError,
        "cholesky.*not positive definite",
    ),
    "qr mode": (lambda: mg.linalg.qr(A, "full"), ValueError, "mode='full'; use 'reduced'"),
    "qr complete": (lambda: mg.linalg.qr(B.t().requires_grad_(), "complete"), ValueError, "no gradient here"),
    "svd full": (lambda: mg.linalg.svd(A.clone().requires_grad_()), ValueError, "use full_matrices=False"),
    "eigh side": (lambda: mg.linalg.eigh(mg.eye(2), "M"), ValueError, "UPLO='M'"),
    "matrix_norm ord": (lambda: mg.linalg.matrix_norm(A, 3), ValueError, "ord=3; use 'fro'"),
    "matrix_norm dims": (lambda: mg.linalg.matrix_norm(A, dim=(0, 0)), ValueError, "names one dim twice"),
    "matrix_norm vector": (lambda: mg.linalg.matrix_norm(V), ValueError, "two dims are needed"),
    "norm rank": (lambda: mg.linalg.norm(mg.ones(2, 2, 2), 2), ValueError, "name one or two dims"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case):
    function, kind, text = REFUSED[case]
    with pytest.raises(kind, match=text):
        function()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_products_add_in_float32(dtype):
    d = getattr(mg, dtype)
    n = 4096  # adding ones in float16 ends at 2048, in bfloat16 at 256
    a, b = mg.ones(2, n, dtype=d), mg.ones(n, 2, dtype=d)
    for y in (
        a @ b,
        a[0] @ b,
        mg.einsum("ij,jk->ik", a, b),
        a[None] @ b[None],
        mg.addmm(mg.zeros(2, 2, dtype=d), a, b),
    ):
        assert y.dtype is d and (y == n).all()
    a.requires_grad_()
    (b.t() @ a.t()).sum().backward()
    assert a.grad.dtype is d and (a.grad == 2).all()


def test_whole_numbers_multiply_exactly():
    a = mg.tensor([[2**40, 1], [0, 3]])
    assert (a @ a).tolist() == [[2**80 % 2**64, 2**40 + 3], [0, 9]]
    assert mg.tensordot(a, a).item() == (2**80 + 10) % 2**64
    assert (a.int() @ a.int()).dtype is mg.int32


def test_beta_zero_ignores_the_input():
    y = mg.addmm(mg.full((2, 2), float("nan")), A, A.t(), beta=0)
    assert y.tolist() == [[3.0, 3.0], [3.0, 3.0]]


def test_multi_dot_multiplies_in_the_cheapest_order():
    from minigrad.public.products import _splits

    assert _splits([10, 100, 5, 50])[0, 2] == 1  # (A B) C: 7,500 multiplications; A (B C) takes 75,000
    assert _splits([100, 5, 50, 5])[0, 2] == 0


def test_det_is_differentiable_at_singular_matrices():
    x = mg.tensor([[1.0, 2.0], [2.0, 4.0]], dtype=mg.float64, requires_grad=True)
    mg.linalg.det(x).backward()
    np.testing.assert_allclose(x.grad.numpy(), [[4.0, -2.0], [-2.0, 1.0]], atol=1e-14)
    zero = mg.zeros(3, 3, dtype=mg.float64, requires_grad=True)
    mg.linalg.det(zero).backward()
    assert not zero.grad.any()


def test_slogdet_does_not_overflow():
    x = mg.eye(400, dtype=mg.float64) * 1e3
    sign, y = mg.linalg.slogdet(-x[:399, :399])
    assert sign.item() == -1.0 and y.item() == pytest.approx(399 * np.log(1e3))
    assert mg.logdet(-mg.eye(3)).isnan() and mg.logdet(mg.zeros(2, 2)).item() == float("-inf")


def test_equal_singular_values_have_a_gradient_but_their_vectors_none():
    x = mg.eye(3, dtype=mg.float64).requires_grad_()
    mg.linalg.matrix_norm(x, "nuc").backward()
    assert x.grad.tolist() == mg.eye(3).tolist()
    x.grad = None
    U, _, _ = mg.linalg.svd(x)
    U[0, 1].backward()
    assert not x.grad.isfinite().all()


def test_results_have_the_names_of_torch():
    x = mg.eye(2)
    assert (
        mg.linalg.qr(x).Q.shape == mg.linalg.eigh(x).eigenvectors.shape == mg.linalg.svd(x).Vh.shape == (2, 2)
    )
    assert mg.linalg.slogdet(x).sign.item() == 1.0
    assert all(hasattr(mg.linalg, name) for name in mg.linalg.__all__)


# ------------------------------------------------------------------------------------------------ on a device


@pytest.fixture
def device():
    with fake_cupy.installed() as device:
        yield device


@pytest.mark.parametrize("sample", samples.SAMPLES, ids=lambda s: s.name)
def test_a_device_has_the_same_values_and_gradients_and_is_not_read(device, sample):
    exact, _, exact_gradients = test_ops.gradient(mg, sample, create_graph=False)
    with device.counting() as work:
        outputs, gradients = test_ops.gradients_on_device(sample)
    for ours, theirs in zip(outputs + gradients, exact + exact_gradients, strict=True):
        if theirs is not None:
            test_ops.assert_close(ours.detach().cpu().numpy(), test_ops.host(theirs), 1e-12, sample.name)
    assert work.host_reads == []
