"""The training loop on a GPU that is not there: a fake CuPy (tests/fake_cupy) counts launches, host reads and
uploads, and refuses every NumPy array that slips in."""

import fake_cupy
import numpy as np
import pytest

import minigrad as mg
import train
from minigrad import nn, optim
from minigrad.data import DataLoader, TensorDataset
from models import MLP


@pytest.fixture
def device():
    with fake_cupy.installed() as device:
        yield device


def mlp_on(where, optimizer=optim.AdamW, sizes=(784, 256, 128, 10), **options):
    mg.manual_seed(0)
    model = MLP(sizes).to(where)
    return model, optimizer(model.parameters(), **options)


def loader_on(where, n=96, batch=32):
    rng = np.random.default_rng(1)
    images = mg.tensor(rng.standard_normal((n, 784)).astype(np.float32))
    labels = mg.tensor(rng.integers(0, 10, n))
    return DataLoader(TensorDataset(images, labels), batch, shuffle=True, device=where)


def steps(model, optimizer, loader):
    """The loop of train.py; the losses stay on the device."""
    loss_of = nn.CrossEntropyLoss()
    for images, labels in loader:
        loss = loss_of(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield loss.detach()


def test_the_gpus_are_counted_and_named_with_torchs_names():
    if not mg.cuda.is_available():
        assert mg.cuda.device_count() == 0
    with fake_cupy.installed():
        assert mg.cuda.is_available() and mg.cuda.device_count() == 1
        assert mg.cuda.current_device() == 0 and mg.cuda.get_device_name("cuda:0") == "Fake GPU"


def test_a_step_of_the_mlp_is_at_most_20_launches_and_no_host_read(device):
    """Gather 2, products 3, bias+relu 2, bias 1, loss 2, its gradient 1; backward of the layers: 3 products
    for the weights, 3 times relu's gradient with the sum for the bias, 2 products for the inputs; AdamW 1."""
    model, optimizer = mlp_on("cuda")
    loader = loader_on("cuda")
    for _ in range(2):  # the first steps make state, caches and kernels
        losses = list(steps(model, optimizer, loader))
    batches = steps(model, optimizer, loader)
    next(batches)  # the permutation of the epoch is uploaded with its first batch
    with device.counting() as step:
        next(batches)
    assert step.launched <= 20, step.launches
    assert step.launches["adam"] == 1
    assert step.host_reads == [] and step.synchronizations == [] and step.python_scalars == []
    assert len(step.uploads) == 1  # the row of scalars of the optimizer's step
    assert float(losses[-1]) < float(losses[0])


def test_a_logging_step_reads_the_device_once(device):
    model, optimizer = mlp_on("cuda")
    losses = list(steps(model, optimizer, loader_on("cuda")))
    with device.counting() as step:
        float(losses[-1])
    assert len(step.host_reads) == 1


@pytest.mark.parametrize("rule", [optim.SGD, optim.Adam, optim.AdamW])
def test_the_device_trains_as_the_cpu_does(device, rule):
    curves = []
    for where in ("cpu", "cuda"):
        model, optimizer = mlp_on(where, rule, lr=1e-2)
        mg.manual_seed(7)
        curves.append([float(loss) for _ in range(2) for loss in steps(model, optimizer, loader_on(where))])
    assert np.allclose(*curves, rtol=1e-5)


def test_memory_on_the_device_is_flat_over_steps(device):
    import cupy

    model, optimizer = mlp_on("cuda", sizes=(784, 16, 10))
    used = []
    for _ in range(4):
        for _ in steps(model, optimizer, loader_on("cuda")):
            pass
        used.append(cupy.get_default_memory_pool().used_bytes())
    assert used[1] == used[2] == used[3]


def test_the_main_job_runs_on_the_device(device, capsys, tmp_path):
    (score,) = train.main(["--model", "mlp", "--epochs", "5", "--out", str(tmp_path)])  # it finds the GPU
    assert score > 0.7
    assert "cuda:0" in capsys.readouterr().out.splitlines()[-1]


def test_mixing_devices_names_the_operation_and_the_devices(device):
    a, b = mg.ones(2, 2), mg.ones(2, 2, device="cuda")
    for operation in (
        lambda: a + b,
        lambda: b * a,
        lambda: a @ b,
        lambda: mg.cat([a, b]),
        lambda: mg.where(a > 0, b, a),
    ):
        with pytest.raises(TypeError, match="cpu and cuda:0"):
            operation()
    with pytest.raises(TypeError, match="cuda:0"):
        b.numpy()


def test_tensors_move_between_devices_with_their_gradients(device):
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    y = (x.to("cuda") * 3).cpu()
    assert y.device == mg.device("cpu") and x.to("cuda").device == mg.device("cuda:0")
    y.sum().backward()
    assert x.grad.device == mg.device("cpu") and x.grad.tolist() == [3.0, 3.0]


def test_a_gpu_that_does_not_exist_is_named(device):
    with pytest.raises(RuntimeError, match=r"cuda:3.*1 GPU"):
        mg.ones(2, device="cuda:3")
