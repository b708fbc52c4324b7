"""Layers beyond the common ones: alpha dropout, dictionaries of parameters; what does not fit; the device."""

import fake_cupy
import numpy as np
import pytest
from oracle import oracle

import minigrad as mg
from minigrad import nn
from minigrad.nn import functional as F

LEAST = -1.7580993408473766  # selu(-infinity)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_alpha_dropout_keeps_mean_and_variance(p):
    mg.manual_seed(0)
    x = mg.randn(400, 500, dtype=mg.float64)
    y = F.alpha_dropout(x, p, True)
    assert abs(float(y.mean())) < 0.01 and abs(float(y.var()) - 1) < 0.02
    a = ((LEAST**2 * p + 1) * (1 - p)) ** -0.5
    dropped = np.isclose(y.numpy(), a * (LEAST - p * LEAST), rtol=1e-12, atol=0)
    assert abs(dropped.mean() - p) < 0.005
    np.testing.assert_allclose(y.numpy()[~dropped], a * (x.numpy() - p * LEAST)[~dropped], rtol=1e-12)


def test_the_gradient_of_alpha_dropout_passes_where_the_value_did():
    mg.manual_seed(0)
    x = mg.randn(30, 40, dtype=mg.float64, requires_grad=True)
    y = F.alpha_dropout(x, 0.3, True)
    y.sum().backward()
    a = ((LEAST**2 * 0.3 + 1) * 0.7) ** -0.5
    kept = np.isclose(y.detach().numpy(), a * (x.detach().numpy() - 0.3 * LEAST))
    np.testing.assert_allclose(x.grad.numpy(), np.where(kept, a, 0.0), rtol=1e-12)
    assert 0.6 < kept.mean() < 0.8


@pytest.mark.oracle
def test_what_alpha_dropout_puts_there_is_torchs():
    torch = oracle("torch")
    torch.manual_seed(0)
    theirs = torch.nn.functional.alpha_dropout(torch.full((1000,), 0.25, dtype=torch.float64), 0.4, True)
    ours = F.alpha_dropout(mg.full((1000,), 0.25, dtype=mg.float64), 0.4, True)
    np.testing.assert_allclose(np.unique(ours.numpy()), np.unique(theirs.numpy()), rtol=1e-12)


def test_feature_alpha_dropout_takes_whole_channels():
    x = mg.zeros(20, 30, 4, 5)
    y = nn.FeatureAlphaDropout(0.4)(x).numpy()
    assert (y == y[:, :, :1, :1]).all() and len(np.unique(y)) == 2


@pytest.mark.parametrize("layer", [nn.AlphaDropout, nn.FeatureAlphaDropout])
def test_alpha_dropout_at_its_edges(layer):
    x = mg.randn(3, 4, 5)
    assert layer(0.3).eval()(x) is x and layer(0.0)(x) is x
    assert mg.equal(layer(1.0)(x), mg.zeros(3, 4, 5))
    assert tuple(layer(0.5)(x[:0]).shape) == (0, 4, 5)
    with pytest.raises(ValueError, match=r"p=1\.5"):
        layer(1.5)
    assert repr(layer(0.3)) == f"{layer.__name__}(p=0.3, inplace=False)"


def test_a_dictionary_of_parameters():
    net = nn.Module()
    net.table = nn.ParameterDict({"a": mg.ones(2), "b": nn.Parameter(mg.zeros(3))})
    assert [n for n, _ in net.named_parameters()] == ["table.a", "table.b"]
    assert list(net.table) == list(net.table.keys()) == ["a", "b"] and len(net.table) == 2
    assert "a" in net.table and net.table.get("c") is None and isinstance(net.table["a"], nn.Parameter)
    net.table["c"] = mg.ones(1)
    net.table.update(nn.ParameterDict({"a": mg.full((2,), 7.0)}))
    assert float(net.table["a"].sum()) == 14 and [tuple(p.shape) for p in net.table.values()] == [
        (2,),
        (3,),
        (1,),
    ]
    taken = net.table.pop("b")
    assert tuple(taken.shape) == (3,) and [k for k, _ in net.table.items()] == ["a", "c"]
    assert "(a): Parameter containing: [minigrad.float32 of size 2]" in repr(net.table)
    net.table.clear()
    assert len(net.table) == 0 and list(net.parameters()) == []
    with pytest.raises(KeyError):
        del net.table["a"]


@pytest.mark.oracle
@pytest.mark.parametrize(("shape", "groups"), [((4, 2, 3), 1), ((6, 2, 3, 4), 3), ((2, 5, 1, 3, 2), 1)])
def test_dirac_is_torchs(shape, groups):
    torch = oracle("torch")
    ours = nn.init.dirac_(mg.ones(*shape), groups).numpy()
    np.testing.assert_array_equal(ours, torch.nn.init.dirac_(torch.ones(shape), groups).numpy())


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["linear", "bilinear"])
def test_interpolation_between_pixels_is_torchs_in_float32(name):
    torch = oracle("torch")
    x = (
        np.random.default_rng(0)
        .standard_normal((1, 2, 7) if name == "linear" else (1, 2, 7, 5))
        .astype(np.float32)
    )
    for how in (dict(size=13), dict(size=4), dict(scale_factor=1.7)):
        for corners in (False, True):
            given = dict(mode=name, align_corners=corners, **how)
            ours = F.interpolate(mg.tensor(x), **given).numpy()
            theirs = torch.nn.functional.interpolate(torch.tensor(x), **given).numpy()
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=2e-6)


X, IMAGE = mg.ones(2, 3), mg.ones(1, 4, 4, 4)
PLACES = mg.zeros(1, 4, 2, 2, dtype=mg.int64)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: F.pixel_shuffle(IMAGE, 3), ValueError, "the 4 channels do not divide by 9"),
        (lambda: F.pixel_shuffle(X, 2), ValueError, r"pixel_shuffle: input \[2, 3\]"),
        (lambda: F.pixel_shuffle(IMAGE, 0), ValueError, "upscale_factor=0"),
        (lambda: F.pixel_unshuffle(IMAGE, 3), ValueError, "height and width divide by it"),
        (lambda: F.channel_shuffle(IMAGE, 3), ValueError, "the 4 channels do not divide by groups=3"),
        (lambda: F.lp_pool2d(IMAGE, 0, 2), ValueError, "norm_type=0"),
        (lambda: F.lp_pool1d(IMAGE, 2, 2), ValueError, r"input \[1, 4, 4, 4\]"),
        (lambda: F.max_unpool2d(IMAGE, IMAGE, 2), TypeError, "what max_pool2d returns"),
        (lambda: F.max_unpool2d(IMAGE, PLACES, 2), ValueError, r"indices \[1, 4, 2, 2\] for an input"),
        (lambda: F.max_unpool2d(IMAGE[:, :, :2, :2], PLACES - 1, 2), IndexError, "indices from -1 to -1"),
        (lambda: F.max_unpool2d(IMAGE[:, :, :2, :2], PLACES, 2, output_size=[9, 4]), ValueError, r"\[3, 5\]"),
        (lambda: F.local_response_norm(X, 3), ValueError, "at least 3 dims"),
        (lambda: F.local_response_norm(IMAGE, 0), ValueError, "size=0"),
        (lambda: F.multi_margin_loss(X, mg.tensor([0, 3])), IndexError, r"class 3 is not in \[0, 3\)"),
        (lambda: F.multi_margin_loss(X, mg.tensor([0, 1]), p=3), ValueError, "p=3; use 1 or 2"),
        (lambda: F.multi_margin_loss(X, mg.ones(2)), TypeError, "cast with .long()"),
        (lambda: F.multilabel_margin_loss(X, mg.tensor([0, 1])), ValueError, r"target \[2\]"),
        (lambda: F.multilabel_margin_loss(X, mg.ones(2, 3)), TypeError, "cast with .long()"),
        (lambda: F.multilabel_margin_loss(X, mg.tensor([[0, 7, -1]] * 2)), IndexError, "class 7"),
        (lambda: F.triplet_margin_with_distance_loss(X, X, X, margin=0), ValueError, "margin 0"),
        (lambda: F.pdist(IMAGE), ValueError, r"it is \(N, D\)"),
        (lambda: F.pdist(X, -1), ValueError, "p=-1"),
        (lambda: F.interpolate(IMAGE, 2, mode="linear"), ValueError, r"mode='linear' it is \(N, C, L\)"),
        (lambda: F.interpolate(IMAGE, 2, mode="bicubic"), ValueError, "use 'nearest'"),
        (lambda: nn.init.dirac_(mg.ones(2, 2)), ValueError, r"dirac_: a tensor \[2, 2\]"),
        (lambda: nn.init.dirac_(mg.ones(3, 2, 1), 2), ValueError, "groups=2"),
    ],
)
def test_what_does_not_fit_is_named(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_they_run_on_a_device_without_reading_back():
    with fake_cupy.installed() as device:
        x, image = mg.randn(4, 3).to("cuda"), mg.randn(2, 4, 4, 4).to("cuda")
        target = mg.tensor([0, 1, 2, 0]).to("cuda")
        labels = mg.tensor([[0, 2, -1]] * 4).to("cuda")
        pooled = F.max_pool2d(image, 2, return_indices=True)
        calls = [
            lambda: F.pixel_shuffle(image, 2),
            lambda: F.pixel_unshuffle(image, 2),
            lambda: F.channel_shuffle(image, 2),
            lambda: F.lp_pool2d(image * image + 1, 2, 2),
            lambda: F.max_unpool2d(*pooled, 2),
            lambda: F.local_response_norm(image, 3),
            lambda: F.multi_margin_loss(x, target),
            lambda: F.multilabel_margin_loss(x, labels),
            lambda: F.pdist(x),
            lambda: F.interpolate(image, 7, mode="bilinear"),
            lambda: F.alpha_dropout(image, 0.5, True),
        ]
        with device.counting() as step:
            for call in calls:
                call()
        assert step.host_reads == []
