"""The transformer's layers: PyTorch's names, arguments and numbers, in both orders of norm and attention."""

import inspect

import fake_cupy
import numpy as np
import pytest
from oracle import oracle

import minigrad as mg
from minigrad import nn
from minigrad.nn import functional as F

RNG = np.random.default_rng(3)
SRC, TGT = RNG.standard_normal((5, 2, 8)), RNG.standard_normal((4, 2, 8))
FORMS = [
    dict(),
    dict(norm_first=True),
    dict(batch_first=True),
    dict(activation="gelu", bias=False),
    dict(activation="gelu", norm_first=True, batch_first=True, layer_norm_eps=1e-3),
    dict(activation="silu"),
]


def options(m, form):
    """The form, with an activation that has no name as a function."""
    form = dict(dim_feedforward=12, dropout=0.0, **form)
    if form.get("activation") == "silu":
        form["activation"] = m.nn.functional.silu
    return form


def both(build, torch):
    """The layer on both sides, in float64, with torch's weights."""
    torch.manual_seed(0)
    theirs = build(torch).double()
    for p in theirs.parameters():
        torch.nn.init.normal_(p, 0, 0.4)
    ours = build(mg).double()
    ours.load_state_dict({k: mg.tensor(v.numpy()) for k, v in theirs.state_dict().items()})
    return ours, theirs


def derivatives(m, layer, inputs, call):
    """The output, its gradients in a direction, and the gradients of the sum of their squares."""
    tensors = [m.tensor(a, requires_grad=True) for a in inputs]
    y = call(m, layer, *tensors)
    direction = m.tensor(np.cos(np.arange(int(np.prod(y.shape)))).reshape(tuple(y.shape)))
    wanted = [*tensors, *layer.parameters()]
    grad = m.grad if m is mg else m.autograd.grad
    first = grad((y * direction).sum(), wanted, create_graph=True)
    second = grad(sum((g * g).sum() for g in first), wanted, allow_unused=True)
    second = [g if g is not None else t * 0 for g, t in zip(second, wanted)]
    return [t.detach().numpy() for t in (y, *first, *second)]


def compare(torch, build, inputs, call):
    ours, theirs = both(build, torch)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        expected = derivatives(torch, theirs, inputs, call)
    for a, b in zip(derivatives(mg, ours, inputs, call), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10 * max(np.abs(b).max(), 1.0))


def swapped(form, *arrays):
    return [a.swapaxes(0, 1) if form.get("batch_first") else a for a in arrays]


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore:enable_nested_tensor:UserWarning")
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_an_encoder_is_torchs(form):
    torch = oracle("torch")

    def build(m):
        layer = m.nn.TransformerEncoderLayer(8, 2, **options(m, form))
        return m.nn.TransformerEncoder(layer, 2, m.nn.LayerNorm(8))

    def call(m, layer, src):
        padding = m.tensor(np.arange(5) >= np.array([[5], [3]]))
        mask = m.tensor(np.triu(np.ones((5, 5), bool), 1))
        return layer(src, mask, padding)

    compare(torch, build, swapped(form, SRC), call)
    compare(torch, build, swapped(form, SRC), lambda m, layer, src: layer(src))


@pytest.mark.oracle
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_a_decoder_is_torchs(form):
    torch = oracle("torch")

    def build(m):
        return m.nn.TransformerDecoder(m.nn.TransformerDecoderLayer(8, 2, **options(m, form)), 2)

    def call(m, layer, tgt, memory):
        mask = m.nn.Transformer.generate_square_subsequent_mask(4, dtype=m.float64)
        padding = m.tensor(np.arange(5) >= np.array([[5], [3]]))
        return layer(tgt, memory, mask, None, None, padding, tgt_is_causal=True)

    compare(torch, build, swapped(form, TGT, SRC), call)


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore:enable_nested_tensor:UserWarning")
def test_the_whole_is_torchs():
    torch = oracle("torch")
    compare(
        torch,
        lambda m: m.nn.Transformer(8, 2, 1, 2, 12, 0.0),
        [SRC, TGT],
        lambda m, layer, src, tgt: layer(
            src, tgt, tgt_mask=layer.generate_square_subsequent_mask(4, dtype=m.float64)
        ),
    )
    compare(
        torch,
        lambda m: m.nn.Transformer(8, 2, 1, 1, 12, 0.0, "gelu", norm_first=True),
        [SRC[:, 0], TGT[:, 0]],
        lambda m, layer, src, tgt: layer(src, tgt),
    )


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore:enable_nested_tensor:UserWarning")
@pytest.mark.parametrize(
    "name",
    [
        *"TransformerEncoderLayer TransformerEncoder TransformerDecoderLayer TransformerDecoder".split(),
        "Transformer",
    ],
)
def test_arguments_and_state_are_torchs(name):
    torch = oracle("torch")
    for method in ("__init__", "forward"):
        ours, theirs = (inspect.signature(getattr(getattr(m.nn, name), method)) for m in (mg, torch))
        assert list(ours.parameters) == list(theirs.parameters)
        for word, p in ours.parameters.items():
            if word != "activation":
                assert p.default == theirs.parameters[word].default
    given = dict(d_model=8, nhead=2) if "coder" not in name or "Layer" in name else None
    if given:
        ours, theirs = (list(getattr(m.nn, name)(**given).state_dict()) for m in (mg, torch))
        assert ours == theirs


def test_dropout_acts_in_training_only_and_by_its_rate():
    layer = nn.TransformerEncoderLayer(8, 2, 12, 0.5)
    x = mg.tensor(SRC, dtype=mg.float32)
    mg.manual_seed(0)
    first, second = layer(x), layer(x)
    assert not mg.equal(first, second)
    layer.eval()
    assert mg.equal(layer(x), layer(x))
    mg.manual_seed(0)
    assert mg.equal(layer.train()(x), first)


def test_hooks_of_the_parts_are_called():
    """The fused feed-forward part gives way to a hook, which sees the same numbers."""
    layer, seen = nn.TransformerEncoderLayer(8, 2, 12, 0.0), []
    x = mg.tensor(SRC, dtype=mg.float32)
    plain = layer(x)
    layer.linear1.register_forward_hook(lambda module, args, output: seen.append(output))
    np.testing.assert_allclose(layer(x).detach().numpy(), plain.detach().numpy(), rtol=1e-5, atol=1e-6)
    assert len(seen) == 1 and tuple(seen[0].shape) == (5, 2, 12)


def test_it_learns_to_turn_a_sequence_round():
    mg.manual_seed(0)
    net = nn.Transformer(16, 2, 1, 1, 32, 0.0, batch_first=True)
    embed, head = nn.Embedding(7, 16), nn.Linear(16, 6)
    place = nn.Parameter(mg.randn(5, 16))
    step = mg.optim.Adam([*net.parameters(), *embed.parameters(), *head.parameters(), place], lr=3e-3)
    causal = net.generate_square_subsequent_mask(5)
    rng = np.random.default_rng(0)
    for _ in range(250):
        source = rng.integers(0, 6, (32, 5))
        wanted = source[:, ::-1].copy()
        begun = np.concatenate([np.full((32, 1), 6), wanted[:, :-1]], 1)  # 6 begins a sequence
        y = head(net(embed(mg.tensor(source)) + place, embed(mg.tensor(begun)) + place, tgt_mask=causal))
        loss = F.cross_entropy(y.reshape(-1, 6), mg.tensor(wanted).reshape(-1))
        step.zero_grad()
        loss.backward()
        step.step()
    assert float(loss) < 0.1


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: nn.TransformerEncoderLayer(8, 2, activation="x"), "activation='x'; use 'relu', 'gelu'"),
        (lambda: nn.TransformerEncoderLayer(8, 3), "embed_dim=8, num_heads=3"),
        (lambda: nn.TransformerEncoder(nn.Identity(), -1), "num_layers=-1"),
        (
            lambda: nn.Transformer(8, 2, 1, 1)(mg.ones(5, 2, 8), mg.ones(4, 3, 8)),
            r"src \[5, 2, 8\], tgt \[4, 3, 8\]",
        ),
        (lambda: nn.Transformer(8, 2, 1, 1)(mg.ones(5, 2, 8), mg.ones(4, 2, 7)), r"\(T, N, 8\)"),
        (lambda: nn.TransformerEncoderLayer(8, 2)(mg.ones(5, 2, 8), is_causal=True), "give the mask too"),
    ],
)
def test_what_does_not_fit_is_named(call, match):
    with pytest.raises(ValueError, match=match):
        call()


def test_it_runs_on_a_device_without_reading_back():
    with fake_cupy.installed() as device:
        net = nn.Transformer(8, 2, 1, 1, 12, 0.1).to("cuda")
        src, tgt = (mg.tensor(a, dtype=mg.float32).to("cuda") for a in (SRC, TGT))
        mask = net.generate_square_subsequent_mask(4, device="cuda")
        with device.counting() as step:
            net(src, tgt, tgt_mask=mask).sum().backward()
        assert step.host_reads == []
