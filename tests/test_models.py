"""The models: shapes, initialisation, what attention may see, and generation with and without a cache."""

from types import SimpleNamespace

import numpy as np
import pytest

import minigrad as mg
from minigrad import checkpoint
from minigrad.data import CharTokenizer
from minigrad.nn import functional as F
from models import GPT, MLP, GPTConfig, ResNet9, SmallCNN, rules
from models import generate as command
from models.transformer import sample

SMALL = dict(vocab=11, context=8, layers=2, heads=2, width=16)
FORMS = [dict(), dict(rotary=True), dict(tied=True, bias=False), dict(dropout=0.2)]


def test_the_sizes_that_the_documentation_states():
    assert sum(p.numel() for p in MLP([64, 64, 10]).parameters()) == 4_810
    assert sum(p.numel() for p in SmallCNN().parameters()) == 20_490
    assert SmallCNN(3, 32)(mg.zeros(2, 3, 32, 32)).shape == (2, 10)
    small = ResNet9(width=4)
    assert small(mg.randn(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize("form", FORMS)
def test_a_token_sees_itself_and_what_came_before(form):
    model = GPT(GPTConfig(**SMALL, **form)).eval()
    a = mg.randint(0, 11, (3, 8))
    b = a.clone()
    b[:, 5:] = mg.randint(0, 11, (3, 3))
    with mg.no_grad():
        ya, yb = model(a).numpy(), model(b).numpy()
    assert np.allclose(ya[:, :5], yb[:, :5], atol=1e-6) and not np.allclose(ya[:, 5:], yb[:, 5:])


@pytest.mark.parametrize("form", FORMS)
def test_the_cache_changes_nothing(form):
    model = GPT(GPTConfig(**SMALL, **form)).eval()
    tokens = mg.randint(0, 11, (2, 7))
    cache = [{} for _ in model.blocks]
    with mg.no_grad():
        parts = [model(tokens[:, :3], cache), model(tokens[:, 3:5], cache), model(tokens[:, 5:6], cache)]
        parts.append(model(tokens[:, 6:], cache))
        assert np.allclose(mg.cat(parts, 1).numpy(), model(tokens).numpy(), atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_generation_goes_beyond_the_context_and_repeats_by_seed(form):
    model = GPT(GPTConfig(**SMALL, **form))
    start = mg.tensor([[1, 2], [3, 4]])

    def run(seed, **options):
        mg.manual_seed(seed)
        return model.generate(start, 15, **options).tolist()

    assert np.shape(run(0)) == (2, 17) and run(0) == run(0) != run(1)
    assert run(0, temperature=0) == run(1, temperature=0) == run(5, top_k=1)
    assert model.training


def test_greedy_generation_is_what_the_whole_model_says():
    model = GPT(GPTConfig(**SMALL)).eval()
    tokens = model.generate(mg.tensor([[1, 2, 3]]), 9, temperature=0)
    for t in range(3, 12):
        window = tokens[:, max(0, t - 8) : t]
        with mg.no_grad():
            assert int(model(window)[0, -1].argmax()) == int(tokens[0, t])


def test_top_k_and_top_p_keep_the_likeliest():
    logits = mg.tensor([[0.5, 0.3, 0.15, 0.05]] * 4000).log()
    for options, allowed in (
        (dict(top_k=2), {0, 1}),
        (dict(top_p=0.7), {0, 1}),
        (dict(top_p=0.81), {0, 1, 2}),
        (dict(top_p=0.01), {0}),
        (dict(), {0, 1, 2, 3}),
    ):
        mg.manual_seed(0)
        drawn = sample(logits, **options).numpy().ravel()
        assert set(drawn.tolist()) == allowed
    shares = np.bincount(drawn, minlength=4) / 4000
    assert np.allclose(shares, [0.5, 0.3, 0.15, 0.05], atol=0.03)


def test_weights_start_as_nanogpts():
    model = GPT(GPTConfig(vocab=65, width=128))
    spread = {name: float(p.detach().std()) for name, p in model.named_parameters() if p.ndim == 2}
    for name, found in spread.items():
        expected = 0.02 / np.sqrt(8) if name.endswith(("out.weight", "down.weight")) else 0.02
        assert found == pytest.approx(expected, rel=0.05), name
    first = F.cross_entropy(model(mg.randint(0, 65, (4, 64))).flatten(0, 1), mg.randint(0, 65, (256,)))
    assert float(first.detach()) == pytest.approx(np.log(65), abs=0.1)


def test_a_tied_head_is_one_parameter_and_matrices_alone_decay():
    tied = GPT(GPTConfig(**SMALL, tied=True))
    assert tied.head.weight is tied.tokens.weight
    asked = SimpleNamespace(freeze=None, weight_decay=0.1, optimizer="adamw")
    decaying, rest = rules.grouped(tied, asked)
    assert (decaying["weight_decay"], rest["weight_decay"]) == (0.1, 0.0)
    assert all(p.ndim == 2 for _, p in decaying["params"]) and all(p.ndim == 1 for _, p in rest["params"])
    assert len({*decaying["params"], *rest["params"]}) == len(list(tied.parameters()))


@pytest.mark.parametrize("tied", [False, True])
def test_a_large_vocabularys_loss_needs_no_logits(tied):
    """The same loss and gradients from the features, in chunks of rows."""
    tokens = np.random.default_rng(0).integers(0, 300, (33, 8))
    indices, targets = mg.tensor(tokens[:-1]), mg.tensor(tokens[1:]).flatten()
    results = []
    for chunked in (False, True):
        mg.manual_seed(0)
        model = GPT(GPTConfig(300, context=8, layers=1, heads=2, width=16, tied=tied))
        if chunked:
            features = model.features(indices).flatten(0, 1)
            loss = F.linear_cross_entropy(features, model.head.weight, targets)
        else:
            loss = F.cross_entropy(model(indices).flatten(0, 1), targets)
        assert (loss.node.op.name == "linear_cross_entropy") == chunked
        loss.backward()
        results.append([loss.detach().numpy(), *[p.grad.numpy() for p in model.parameters()]])
    for whole, part in zip(*results, strict=True):
        np.testing.assert_allclose(part, whole, atol=1e-6 * np.abs(whole).max())


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: GPTConfig(10, width=10, heads=4), "width 10 is not a multiple of 4 heads"),
        (lambda: GPTConfig(10, width=12, heads=4, rotary=True), "even head size, not 3"),
        (lambda: GPT(GPTConfig(**SMALL))(mg.zeros(1, 9, dtype=mg.int64)), "9 tokens, the context is 8"),
        (lambda: GPT(GPTConfig(**SMALL)).generate(mg.zeros(1, 1, dtype=mg.int64), 1, top_p=2), "top_p 2"),
        (lambda: MLP([3]), r"MLP: sizes \[3\]"),
    ],
)
def test_what_does_not_fit_is_named(make, says):
    with pytest.raises(ValueError, match=says):
        make()


def test_the_command_writes_text_from_a_checkpoint(tmp_path, capsys):
    tokenizer = CharTokenizer("abcdefghij\n")
    model = GPT(GPTConfig(**SMALL))
    meta = dict(model="transformer", tokenizer=tokenizer.to_json(), gpt={**SMALL})
    checkpoint.save(tmp_path / "gpt", model.state_dict(), meta)
    text = command.main([str(tmp_path / "gpt"), "--prompt", "abc", "--count", "20", "--top-k", "5"])
    assert text.startswith("abc") and len(text) == 23 and capsys.readouterr().out == text + "\n"
    for wrong, says in (([str(tmp_path / "no")], "no such checkpoint"),
                        ([str(tmp_path / "gpt"), "--prompt", "XYZ"], "'X'")):  # fmt: skip
        with pytest.raises(SystemExit) as stop:
            command.main(wrong)
        assert stop.value.code == 2 and says in capsys.readouterr().err
