"""Attention layers: nn.MultiheadAttention against torch, errors, and what a transformer block launches."""

import fake_cupy
import numpy as np
import pytest
from oracle import oracle

import minigrad as mg
from minigrad import nn, optim
from minigrad.nn import functional as F

rng = np.random.default_rng(5)


def pair(ours, theirs):
    """Both modules in float64 with the same parameters."""
    ours, theirs = ours.double(), theirs.double()
    expected = theirs.state_dict()
    found = ours.state_dict()
    assert list(found) == list(expected)
    assert [tuple(t.shape) for t in found.values()] == [tuple(t.shape) for t in expected.values()]
    ours.load_state_dict({k: mg.tensor(v.numpy()) for k, v in expected.items()})
    return ours, theirs


def close(ours, theirs):
    assert tuple(ours.shape) == tuple(theirs.shape)
    np.testing.assert_allclose(ours.detach().numpy(), theirs.detach().numpy(), rtol=0, atol=1e-10)


L, S, N, E = 3, 4, 2, 8
PADDING = np.array([[False, True, False, False], [False, False, False, True]])
MASK = np.triu(np.ones((L, S), bool), 1)

OPTIONS = [
    ({}, {}),
    ({}, dict(need_weights=False)),
    ({}, dict(average_attn_weights=False)),
    (dict(bias=False), {}),
    (dict(batch_first=True), {}),
    (dict(kdim=5, vdim=6), {}),
    (dict(kdim=5, vdim=6, bias=False, batch_first=True), dict(need_weights=False)),
    (dict(add_bias_kv=True), {}),
    (dict(add_zero_attn=True), {}),
    (dict(add_bias_kv=True, add_zero_attn=True), dict(key_padding_mask=PADDING, attn_mask=MASK)),
    ({}, dict(key_padding_mask=PADDING)),
    ({}, dict(key_padding_mask=PADDING, need_weights=False)),
    ({}, dict(attn_mask=MASK)),
    ({}, dict(attn_mask=MASK, is_causal=True, need_weights=False)),
    ({}, dict(attn_mask=rng.standard_normal((L, S)))),
    ({}, dict(attn_mask=rng.standard_normal((N * 2, L, S)), key_padding_mask=rng.standard_normal((N, S)))),
    (dict(batch_first=True), dict(attn_mask=np.stack([MASK] * (N * 2)), key_padding_mask=PADDING)),
]


@pytest.mark.oracle
@pytest.mark.parametrize(("options", "call"), OPTIONS, ids=str)
def test_multihead_attention_equals_torch(options, call):
    torch = oracle("torch")
    ours, theirs = pair(nn.MultiheadAttention(E, 2, **options), torch.nn.MultiheadAttention(E, 2, **options))
    widths = E, options.get("kdim", E), options.get("vdim", E)
    arrays = [rng.standard_normal((n, N, w)) for n, w in zip((L, S, S), widths, strict=True)]
    if options.get("batch_first"):
        arrays = [a.swapaxes(0, 1) for a in arrays]
    results = []
    for m, module in ((mg, ours), (torch, theirs)):
        inputs = [m.tensor(np.ascontiguousarray(a)).requires_grad_() for a in arrays]
        given = {k: m.tensor(v) if isinstance(v, np.ndarray) else v for k, v in call.items()}
        y, weights = module(*inputs, **given)
        (y * y).sum().backward()
        results.append((y, weights, [t.grad for t in inputs], [p.grad for p in module.parameters()]))
    (y, w, g, p), (y_, w_, g_, p_) = results
    close(y, y_)
    assert (w is None) == (w_ is None)
    for a, b in zip(
        [*([] if w is None else [w]), *g, *p], [*([] if w is None else [w_]), *g_, *p_], strict=True
    ):
        close(a, b)


@pytest.mark.oracle
@pytest.mark.parametrize("shape", [(L, N, E), (L, E)], ids=str)
@pytest.mark.parametrize("need_weights", [True, False])
def test_self_attention_equals_torch(shape, need_weights):
    torch = oracle("torch")
    ours, theirs = pair(nn.MultiheadAttention(E, 4), torch.nn.MultiheadAttention(E, 4))
    a, mask = rng.standard_normal(shape), np.triu(np.ones((L, L), bool), 1)
    results = []
    for m, module in ((mg, ours), (torch, theirs)):
        x = m.tensor(a).requires_grad_()
        y, _ = module(x, x, x, attn_mask=m.tensor(mask), need_weights=need_weights)
        (y * y).sum().backward()
        results.append((y, x.grad, *[p.grad for p in module.parameters()]))
    for a, b in zip(*results, strict=True):
        close(a, b)


def test_multihead_attention_begins_as_torch_does():
    mg.manual_seed(0)
    layer = nn.MultiheadAttention(64, 4, add_bias_kv=True)
    bound = (6 / (64 + 192)) ** 0.5
    assert 0.95 * bound < float(layer.in_proj_weight.abs().max()) <= bound
    assert not layer.in_proj_bias.any() and not layer.out_proj.bias.any()
    assert float(layer.out_proj.weight.abs().max()) <= 1 / 8
    assert float(layer.bias_k.std()) == pytest.approx((2 / (64 + 64)) ** 0.5, rel=0.4)


def test_dropout_of_weights_acts_in_training_alone():
    mg.manual_seed(0)
    layer, x = nn.MultiheadAttention(8, 2, dropout=0.5), mg.randn(6, 3, 8)
    _, weights = layer(x, x, x, average_attn_weights=False)
    dropped = float((weights == 0).float().mean())
    assert 0.3 < dropped < 0.7
    quiet = layer.eval()(x, x, x, need_weights=False)[0]
    assert (quiet == layer(x, x, x)[0]).all() or mg.allclose(quiet, layer(x, x, x)[0])
    kept = F.scaled_dot_product_attention(x, x, x, dropout_p=0.5)
    assert not mg.allclose(kept, F.scaled_dot_product_attention(x, x, x))


def test_half_types_are_computed_in_float32():
    for name, tolerance in (("float16", 2e-3), ("bfloat16", 2e-2)):
        q = mg.randn(2, 2, 5, 8).to(getattr(mg, name))
        exact = F.scaled_dot_product_attention(*[q.double()] * 3, is_causal=True)
        half = F.scaled_dot_product_attention(q, q, q, is_causal=True)
        assert half.dtype is getattr(mg, name)
        assert float((half.double() - exact).abs().max()) < tolerance * 3


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda q: F.scaled_dot_product_attention(q, q, q[..., :2, :]), ValueError, "query .* key .* value"),
        (lambda q: F.scaled_dot_product_attention(q, q.double(), q), TypeError, "mixed dtypes float32"),
        (lambda q: F.scaled_dot_product_attention(q, q, q, mg.ones(3, 3), is_causal=True), ValueError, "are"),
        (lambda q: F.scaled_dot_product_attention(q, q, q, mg.ones(2, 3)), ValueError, "does not broadcast"),
        (lambda q: F.scaled_dot_product_attention(q, q, q, mg.ones(3, 3).double()), TypeError, "bool mask"),
        (lambda q: F.scaled_dot_product_attention(q, q, q, dropout_p=2.0), ValueError, "dropout_p=2.0"),
        (lambda q: F.scaled_dot_product_attention(q, q[:, :1].repeat(1, 3, 1, 1), q), ValueError, "gqa"),
        (lambda q: F.scaled_dot_product_attention(q, *[q[:, :1].repeat(1, 3, 1, 1)] * 2, enable_gqa=True),
         ValueError, "divide"),
        (lambda q: F.packed_attention(q[0], 3), ValueError, "divides by num_heads"),
        (lambda q: nn.MultiheadAttention(6, 4), ValueError, "embed_dim=6, num_heads=4"),
        (lambda q: nn.MultiheadAttention(8, 2)(q[0], q[0], q[0]), ValueError, r"\(L, N, 8\)"),
        (lambda q: nn.MultiheadAttention(4, 2)(*[q[0]] * 3, is_causal=True), ValueError, "give the mask"),
        (lambda q: nn.MultiheadAttention(4, 2)(*[q[0]] * 3, attn_mask=mg.ones(2)), ValueError, "attn_mask"),
        (lambda q: nn.MultiheadAttention(4, 2)(*[q[0]] * 3, key_padding_mask=mg.ones(2)), ValueError,
         "key_padding_mask"),
    ],
)  # fmt: skip
def test_errors_name_the_shapes_and_the_cure(call, error, says):
    with pytest.raises(error, match=says):
        call(mg.randn(2, 2, 3, 4))


# ------------------------------------------------------------------------------------- a transformer block


class Block(nn.Module):
    """Pre-norm transformer block, of fused parts."""

    def __init__(self, width, heads, bias):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width, bias=bias), nn.LayerNorm(width, bias=bias)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias), nn.Linear(width, width, bias)
        self.up, self.down = nn.Linear(width, 4 * width, bias), nn.Linear(4 * width, width, bias)

    def forward(self, x):
        out, up, down = self.out, self.up, self.down
        h = F.packed_attention(self.qkv(self.norm1(x)), self.heads, is_causal=True)
        x = F.linear(h, out.weight, out.bias, residual=x)
        h = F.linear(self.norm2(x), up.weight, up.bias, activation="gelu_tanh")
        return F.linear(h, down.weight, down.bias, residual=x)


@pytest.mark.parametrize(
    ("bias", "forward_most", "backward_most"),
    [(False, 12, 19), (True, 13, 22)],
    ids=["without biases", "with biases"],
)
def test_a_transformer_block_launches_few_kernels(bias, forward_most, backward_most):
    """Forward: layer norm 2, products 6, weights 1, GELU 1; a residual 2 (with a bias, one launch), and the
    bias of q, k, v. Backward: products 12, layer norm 4, which adds the stream's other gradient, but for the
    input of the block, a leaf here; weights 1, GELU 1, and the biases of three products. Heads are read and
    written where they lie: no copies, and the pointers to them are uploaded until the memory pool's addresses
    come back."""
    with fake_cupy.installed() as device:
        mg.manual_seed(0)
        block = Block(16, 2, bias).to("cuda")
        optimizer = optim.SGD(block.parameters(), lr=0.1)
        data = mg.randn(3, 5, 16).to("cuda").requires_grad_()
        seed = mg.ones(3, 5, 16).to("cuda")
        for _ in range(5):  # the first steps make constants, the arena and pointers
            optimizer.zero_grad()
            data.grad = None
            with device.counting() as forward:
                y = block(data)
            with device.counting() as backward:
                y.backward(seed)
            optimizer.step()
    for counts, most, copies in ((forward, forward_most, 0), (backward, backward_most, 2)):
        # of the seed, and to data.grad
        assert counts.host_reads == counts.python_scalars == []
        assert [u for u in counts.uploads if "blas.py" not in repr(u)] == []
        assert counts.launched - copies <= most and counts.launches["copy"] == copies, counts.launches


@pytest.mark.parametrize("bias", [False, True])
def test_a_transformer_block_is_the_same_on_the_device(bias):
    with fake_cupy.installed():
        results = []
        for where in ("cpu", "cuda"):
            mg.manual_seed(0)
            block = Block(16, 2, bias).to(where)
            y = block(mg.randn(3, 5, 16).to(where))
            y.square().sum().backward()
            results.append([y, *[p.grad for p in block.parameters()]])
        for a, b in zip(*results, strict=True):
            assert mg.allclose(a, b.cpu(), rtol=1e-4, atol=1e-5)
