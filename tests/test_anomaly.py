"""Anomaly mode: the operation that made the first nan, and where it was called; nothing of it when off."""

import threading
import traceback

import numpy as np
import pytest
from oracle import oracle

import minigrad as mg
from minigrad import anomaly, nn
from minigrad.nn import functional as F

MODES = (mg.autograd.detect_anomaly, lambda: mg.autograd.set_detect_anomaly(True))


def root_of_zero(x):
    """d sqrt(x) at 0 is inf, times 0 is nan."""
    return (mg.sqrt(x) * 0.0).sum()


def at_zero():
    return mg.tensor([1.0, 0.0], requires_grad=True)


@pytest.mark.parametrize("mode", MODES, ids=["detect_anomaly", "set_detect_anomaly"])
def test_a_nan_gradient_names_the_operation_and_the_line_of_its_call(mode):
    with mode(), pytest.raises(RuntimeError) as caught:
        root_of_zero(at_zero()).backward()
    message = str(caught.value)
    assert "sqrt returned nan values in its 0th output (the gradient of 'x', float32[2])" in message
    assert "return (mg.sqrt(x) * 0.0).sum()" in message and "root_of_zero" in message
    assert "<string>" not in message  # the generated text is nobody's line


def test_what_pytorch_blames_is_what_we_blame():
    torch = oracle("torch")
    for lib in (torch, mg):
        with pytest.raises(RuntimeError, match=r"(?i)sqrt.*returned nan values in its 0th output"):
            x = lib.tensor([1.0, 0.0], requires_grad=True)
            if lib is mg:
                with mg.autograd.detect_anomaly():
                    root_of_zero(x).backward()
            else:
                with pytest.warns(UserWarning), torch.autograd.detect_anomaly():
                    (torch.sqrt(x) * 0.0).sum().backward()


def test_off_a_nan_gradient_passes_and_the_operations_are_the_old_ones():
    root_of_zero(at_zero()).backward()
    op = mg.ops.sqrt.op
    before = (op.pullbacks, op.joint, [dict(scope) for scope in anomaly.watched[op]])
    with mg.autograd.detect_anomaly(check_forward=True):
        assert op.pullbacks is not before[0]
    assert (op.pullbacks, op.joint, [dict(scope) for scope in anomaly.watched[op]]) == before
    assert anomaly.put_back == []
    x = at_zero()
    root_of_zero(x).backward()
    assert np.isnan(x.grad.array).any()
    assert type(root_of_zero(x).node.born) is int


def test_a_graph_made_before_the_mode_says_that_no_call_was_remembered():
    y = root_of_zero(at_zero())
    with mg.autograd.detect_anomaly(), pytest.raises(RuntimeError, match="No forward pass information"):
        y.backward()


def test_without_check_nan_nan_passes_and_errors_name_the_call():
    x = at_zero()
    with mg.autograd.detect_anomaly(check_nan=False):
        assert mg.is_anomaly_enabled() and not mg.is_anomaly_check_nan_enabled()
        root_of_zero(x).backward()
        assert np.isnan(x.grad.array[1])
        a = mg.ones(3, requires_grad=True) * 1.0
        y = (a * a).sum()
        with mg.no_grad():
            a += 1.0
        with pytest.raises(RuntimeError, match="modified in place") as caught:
            y.backward()
    assert "y = (a * a).sum()" in "".join(traceback.format_exception(caught.value))


def test_the_mode_nests_and_is_restored_after_an_error():
    assert not mg.is_anomaly_enabled()
    with pytest.raises(KeyError), mg.autograd.detect_anomaly():
        with mg.autograd.detect_anomaly(check_nan=False):
            assert not mg.is_anomaly_check_nan_enabled()
        assert mg.is_anomaly_check_nan_enabled()
        with mg.autograd.set_detect_anomaly(False):
            assert not mg.is_anomaly_enabled()
        assert mg.is_anomaly_enabled()
        raise KeyError
    assert not mg.is_anomaly_enabled() and not mg.is_anomaly_check_nan_enabled()
    mg.autograd.set_detect_anomaly(True)
    assert mg.is_anomaly_enabled()
    mg.autograd.set_detect_anomaly(False)
    assert not mg.is_anomaly_enabled() and anomaly.put_back == []


def test_joint_vjps_are_watched_too():
    """linear has one vjp for all arguments: its weight's gradient is inf - inf here."""
    x = mg.tensor([[1.0, 1.0], [-1.0, 1.0]])
    w, b = mg.ones(3, 2, requires_grad=True), mg.ones(3, requires_grad=True)
    text = r"linear returned nan values in its 1th output \(the gradient of 'w', float32\[3, 2\]\)"
    with mg.autograd.detect_anomaly(), pytest.raises(RuntimeError, match=text):
        (F.linear(x, w, b) * np.inf).sum().backward()


def test_layers_whose_operations_are_defined_later_are_watched():
    """An operation that is called for the first time while the mode is on is watched from that call on."""
    with mg.autograd.detect_anomaly():

        @mg.autograd.op
        def broken(x):
            return x + 0

        broken.vjp(x=lambda g: g * float("nan"))
        with pytest.raises(RuntimeError, match="broken returned nan"):
            broken(at_zero()).sum().backward()
    x = at_zero()
    broken(x).sum().backward()
    assert np.isnan(x.grad.array).all()


def test_the_gradient_of_a_gradient_is_watched():
    x = mg.tensor(0.0, requires_grad=True)
    with mg.autograd.detect_anomaly(), pytest.raises(RuntimeError, match="returned nan"):
        (g,) = mg.grad(x.abs() ** 1.5, x, create_graph=True)  # the second derivative is |x|^-0.5, times 0
        g.backward()


def test_a_backward_inside_a_hook_does_not_mislead():
    """The node that is named is the one whose vjp failed, though another pass ran in between."""
    x = at_zero()
    root = mg.sqrt(x)

    def another_pass(g):
        with mg.enable_grad():
            mg.ones(1, requires_grad=True).exp().sum().backward()

    root.register_hook(another_pass)
    with mg.autograd.detect_anomaly(), pytest.raises(RuntimeError, match="sqrt returned nan"):
        (root * 0.0).sum().backward()


def test_gradients_and_arena_are_the_same_with_the_mode_on():
    def trained(watch):
        mg.manual_seed(0)
        model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.LayerNorm(8), nn.Linear(8, 3))
        optimizer = mg.optim.AdamW(model.parameters())
        x, t = mg.randn(7, 5), mg.randint(0, 3, (7,))
        for _ in range(3):
            with mg.autograd.set_detect_anomaly(watch, check_forward=watch):
                optimizer.zero_grad()
                F.cross_entropy(model(x), t).backward()
                optimizer.step()
        return np.concatenate([p.array.ravel() for p in model.parameters()])

    assert np.array_equal(trained(True), trained(False))


# ---- the forward watch


def test_the_first_operation_that_returns_nan_or_inf_is_named():
    x = mg.tensor([1.0, -1.0])
    with mg.autograd.detect_anomaly(check_forward=True):
        with pytest.raises(RuntimeError, match=r"^log returned nan in its output float32\[2\]; its arg.* x"):
            mg.exp(mg.log(x))
        with pytest.raises(RuntimeError, match=r"^div returned inf"):
            x / mg.zeros(2)
        with pytest.raises(RuntimeError, match=r"^exp returned inf"):
            mg.exp(x * 1000)


def test_infinities_that_were_put_in_are_not_blamed():
    """Masked attention writes -inf on purpose: select gets it as an argument, softmax takes it away."""
    scores = mg.randn(4, 4, requires_grad=True)
    with mg.autograd.detect_anomaly(check_forward=True):
        masked = scores.masked_fill(mg.ones(4, 4).triu(1) > 0, -np.inf)
        masked.softmax(-1).sum().backward()
    assert np.isfinite(scores.grad.array).all()


def test_half_precision_is_watched():
    for kind in (mg.float16, mg.bfloat16):
        x = mg.tensor([1.0, -1.0]).to(kind)
        with (
            mg.autograd.detect_anomaly(check_forward=True),
            pytest.raises(RuntimeError, match="log returned nan"),
        ):
            mg.log(x)


def test_the_mode_holds_for_all_threads():
    told = []

    def work():
        try:
            root_of_zero(at_zero()).backward()
        except RuntimeError as error:
            told.append(str(error))

    with mg.autograd.detect_anomaly():
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert len(told) == 1 and "root_of_zero" in told[0]
