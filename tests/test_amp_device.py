"""Mixed precision on a GPU that is not there: what a step launches, and that one number is read back."""

import fake_cupy
import numpy as np
import pytest

import minigrad as mg
from minigrad import amp, nn, optim
from minigrad.nn import functional as F
from models import GPT, MLP
from models.transformer import GPTConfig

HALVES = [mg.float16, mg.bfloat16]


@pytest.fixture
def device():
    with fake_cupy.installed() as device:
        yield device


def training(dtype, scaled=True, sizes=(784, 256, 128, 10), where="cuda", clip=1.0):
    """A step of the MLP under autocast."""
    mg.manual_seed(0)
    model = MLP(sizes).to(where)
    optimizer = optim.AdamW(model.parameters())
    scaler = amp.GradScaler(where, enabled=scaled)
    x, y = mg.randn(32, sizes[0]).to(where), mg.randint(0, sizes[-1], (32,)).to(where)

    def step():
        with mg.autocast(where, dtype=dtype or mg.float16, enabled=dtype is not None):
            loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer, clip=clip)
        scaler.update()
        return loss

    return step, model, scaler


def counted(device, step):
    for _ in range(3):  # the first steps make state, caches and kernels
        step()
    with device.counting() as counts:
        step()
    return counts


@pytest.mark.parametrize("dtype", HALVES, ids=lambda d: d.name)
def test_all_parameters_are_cast_by_one_launch_a_step(device, dtype):
    """Copies: the shadow once; a gradient's way back to float32, straight into its slot, for each parameter.
    Casts: the images, the logits, their gradient."""
    step, model, _ = training(dtype)
    parameters = len(list(model.parameters()))
    counts = counted(device, step)
    assert counts.launches["copy"] == 1 + parameters
    assert counts.launches["astype"] == 3
    model.eval()
    with device.counting() as again, mg.no_grad(), mg.autocast("cuda", dtype=dtype):
        for _ in range(3):
            model(mg.randn(2, 784).to("cuda"))
    assert again.launches["copy"] == 1  # the parameters did not change in between


def test_looking_for_inf_unscaling_and_clipping_are_six_launches_and_one_host_read(device):
    plain = counted(device, training(mg.float16, scaled=False, clip=None)[0])
    counts = counted(device, training(mg.float16)[0])
    more = counts.launches - plain.launches
    assert more == {
        "unscale": 1, "found_inf": 1, "update_scale": 1, "multiply": 2,  # the loss, and its gradient
        "row_norms": 1, "total_norm": 1, "clip_norm": 1,
    }  # fmt: skip
    assert len(counts.host_reads) == 1 and plain.host_reads == []
    assert counts.uploads == plain.uploads and counts.python_scalars == []


def test_unscaling_is_one_launch_for_any_number_of_parameters(device):
    step, _, _ = training(mg.float16, sizes=(8, 8, 8, 8, 8, 8, 8, 8, 4))
    assert counted(device, step).launches["unscale"] == 1


def test_unscale_and_update_read_nothing(device):
    _, model, scaler = training(mg.float16)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    scaler.scale(model(mg.randn(2, 784).to("cuda")).sum()).backward()
    with device.counting() as counts:
        scaler.unscale_(optimizer)
        scaler.update()
    assert counts.host_reads == [] and counts.synchronizations == []


def test_a_skipped_step_launches_no_update(device):
    step, model, scaler = training(mg.float16, sizes=(8, 8, 4))
    step()
    before = [p.detach().cpu().numpy().copy() for p in model.parameters()]
    handle = next(model.parameters()).register_hook(lambda g: g * np.inf)
    with device.counting() as counts:
        step()
    handle.remove()
    assert scaler.skipped and counts.launches["adam"] == 0 and counts.launches["clip_norm"] == 0
    after = [p.detach().cpu().numpy() for p in model.parameters()]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    assert scaler.get_scale() == 2.0**15


@pytest.mark.parametrize("dtype", HALVES, ids=lambda d: d.name)
def test_the_device_trains_as_the_cpu_does(device, dtype):
    curves = []
    for where in ("cpu", "cuda"):
        step, _, _ = training(dtype, sizes=(16, 32, 4), where=where)
        curves.append([float(step()) for _ in range(10)])
    assert np.allclose(*curves, rtol=1e-3) and curves[0][-1] < curves[0][0]


@pytest.mark.parametrize("dtype", HALVES, ids=lambda d: d.name)
def test_the_transformer_runs_on_the_device_in_half_precision(device, dtype):
    mg.manual_seed(0)
    net = GPT(GPTConfig(vocab=11, context=8, layers=2, heads=2, width=8)).to("cuda")
    optimizer, scaler = optim.AdamW(net.parameters(), lr=1e-2), amp.GradScaler("cuda")
    x = mg.randint(0, 11, (2, 8)).to("cuda")
    losses = []
    for _ in range(8):
        with mg.autocast("cuda", dtype=dtype):
            loss = F.cross_entropy(net(x).reshape(-1, 11), x.reshape(-1))
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer, clip=1.0)
        scaler.update()
        losses.append(float(loss))
    assert losses[-1] < losses[0]


ARTICLE = """
from minigrad.cuda.amp import autocast, GradScaler

scaler = GradScaler()
for batch in dataloader:
    with autocast():
        output = model(batch)
        loss = criterion(output, target)

    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
"""


def test_the_articles_loop_runs_with_the_names_of_torch_cuda_amp(device):
    model = MLP((8, 16, 4)).to("cuda")
    optimizer = optim.Adam(model.parameters(), lr=1e-2)
    names = dict(
        model=model, optimizer=optimizer, dataloader=[mg.randn(6, 8).to("cuda")] * 3,
        criterion=nn.CrossEntropyLoss(), target=mg.randint(0, 4, (6,)).to("cuda"),
    )  # fmt: skip
    exec(ARTICLE, names)
    assert names["output"].dtype is mg.float16 and names["loss"].dtype is mg.float32
    assert optimizer.state[next(model.parameters())]["step"] == 3


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", HALVES, ids=lambda d: d.name)
def test_a_real_gpu_trains_as_the_cpu_does(dtype):
    curves = []
    for where in ("cpu", "cuda"):
        step, _, _ = training(dtype, sizes=(16, 32, 4), where=where)
        curves.append([float(step()) for _ in range(10)])
    assert np.allclose(*curves, rtol=1e-2) and curves[0][-1] < curves[0][0]


def test_autocast_touches_the_device_that_it_names(device):
    a, b = mg.randn(2, 2), mg.randn(2, 2).to("cuda")
    with mg.cuda.amp.autocast():
        assert (b @ b).dtype is mg.float16 and (a @ a).dtype is mg.float32
        assert mg.is_autocast_enabled("cuda") and not mg.is_autocast_enabled("cpu")
        with mg.autocast("cpu"):
            assert (b @ b).dtype is mg.float16 and (a @ a).dtype is mg.bfloat16
        with pytest.raises(RuntimeError, match=r"unsafe to autocast.*binary_cross_entropy_with_logits"):
            F.binary_cross_entropy(b.sigmoid(), mg.ones(2, 2).to("cuda"))


def test_found_inf_of_several_devices_and_types_is_gathered_where_the_scale_is(device):
    """Parameters on the host and on the device in one optimizer."""
    layers = [nn.Linear(2, 2), nn.Linear(2, 2).to("cuda"), nn.Linear(2, 2).to(mg.float64)]
    optimizer = optim.SGD([p for layer in layers for p in layer.parameters()], lr=0.1)
    scaler = amp.GradScaler("cuda", init_scale=4.0)
    for bad in (None, 0, 1, 2):
        optimizer.zero_grad()
        for layer in layers:
            x = mg.ones(1, 2).to(layer.weight.device).to(layer.weight.dtype)
            scaler.scale(layer(x).sum()).backward()
        if bad is not None:
            layers[bad].bias.grad.array[0] = float("inf")
        scaler.step(optimizer)
        scaler.update()
        assert scaler.skipped == (bad is not None)
        assert bad is not None or layers[1].bias.grad.cpu().tolist() == [1.0, 1.0]


def test_adaptive_clipping_is_one_launch_a_tensor_and_reads_nothing(device):
    mg.manual_seed(0)
    layer = nn.Linear(5, 4)
    there = nn.Linear(5, 4).to("cuda")
    there.load_state_dict(layer.state_dict())
    optim.SGD(there.parameters(), lr=0.1)
    for net, where in ((layer, "cpu"), (there, "cuda")):
        net(mg.ones(3, 5).to(where)).pow(2).sum().backward()
    nn.utils.clip_grad_adaptive_(layer.parameters())
    nn.utils.clip_grad_adaptive_(there.parameters())
    with device.counting() as counts:
        nn.utils.clip_grad_adaptive_(there.parameters())
    assert counts.launches == {"clip_adaptive": 2} and counts.host_reads == [] and counts.uploads == []
    for p, q in zip(layer.parameters(), there.parameters(), strict=True):
        assert np.allclose(p.grad.numpy(), q.grad.cpu().numpy(), rtol=1e-5)
