"""The contestants of benchmarks/gpu.py, as far as they show without a GPU.

Our steps are captured and read nothing; on the CPU, in networks of a few thousand parameters, all losses are
PyTorch's.
"""

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import fake_cupy
import pytest
from oracle import oracle

import minigrad as mg

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

from contest import Contest  # noqa: E402  benchmarks/ is no package
from headline import measure, ours, rates, table  # noqa: E402
from headline.work import KINDS, Work  # noqa: E402

PAIRS = [(kind, precision) for kind in KINDS for precision in ("tf32", "bf16")]


@pytest.fixture(autouse=True)
def switches(monkeypatch):
    """What a contestant sets for its process."""
    before = mg.get_float32_matmul_precision()
    monkeypatch.setattr(mg.graph, "_reasons", [])
    with mg.backends.cudnn.flags():
        yield
    mg.set_float32_matmul_precision(before)


# our steps on a GPU that is not there


@pytest.mark.parametrize(("kind", "precision"), PAIRS)
def test_our_step_is_captured_and_reads_nothing(kind, precision):
    work = Work(kind, 8, precision, small=True)
    on_host = ours.contestant(work, "eager", "cpu")
    expected = [float(on_host.step(index)) for index in on_host.batches[:7]]
    with fake_cupy.installed() as device:
        c = ours.contestant(work, "graph", "cuda")
        found = [c.step(index) for index in c.batches[:6]]
        assert (c.step.why, c.step.graphs) == ("", 1)
        with device.counting() as step:
            found.append(c.step(c.batches[6]))
        assert (step.host_reads, step.launches["graph"]) == ([], 1)
        assert [float(loss) for loss in found] == pytest.approx(expected, rel=table.AGREE)


def test_the_step_with_cudnn_is_captured_too_and_refused_without_it():
    work = Work("resnet9", 8, "tf32", small=True)
    on_host = ours.contestant(work, "eager", "cpu")
    expected = [float(on_host.step(index)) for index in on_host.batches[:5]]
    with fake_cupy.installed() as device:
        c = ours.contestant(work, "graph cudnn", "cuda")
        found = [c.step(index) for index in c.batches[:5]]
        assert (c.step.why, c.step.graphs) == ("", 1) and device.cudnn.maths
        assert [float(loss) for loss in found] == pytest.approx(expected, rel=table.AGREE)
    with fake_cupy.installed(cudnn=False), pytest.raises(RuntimeError, match="columns serve, not cuDNN"):
        ours.contestant(work, "graph cudnn", "cuda")


@pytest.mark.parametrize("rule", rates.rules())
def test_the_step_of_every_elementwise_rule_is_captured(rule):
    with fake_cupy.installed() as device:
        step = mg.graph.capture(Contest(rule, [(3000,)], "cuda").ours())
        for _ in range(5):
            step()
        assert (step.why, step.graphs) == ("", 1)
        with device.counting() as counted:
            step()
        assert (counted.host_reads, counted.launched) == ([], 1)


@pytest.mark.parametrize("mode", ["eager", "naive"])
@pytest.mark.parametrize("kind", ["mlp", "gpt4"])
def test_our_other_steps_read_nothing_either(kind, mode):
    with fake_cupy.installed() as device:
        c = ours.contestant(Work(kind, 8, "tf32", small=True), mode, "cuda")
        c.step(c.batches[0])
        with device.counting() as step:
            c.step(c.batches[1])
        assert step.host_reads == []


def test_naive_is_the_same_network_in_many_more_launches():
    work, launched = Work("gpt4", 8, "tf32", small=True), {}
    with fake_cupy.installed() as device:
        for mode in ("eager", "naive"):
            c = ours.contestant(work, mode, "cuda")
            losses = [float(c.step(index)) for index in c.batches[:3]]
            with device.counting() as step:
                c.step(c.batches[3])
            launched[mode] = step.launched, losses
    assert launched["naive"][0] > 2 * launched["eager"][0]
    assert launched["naive"][1] == pytest.approx(launched["eager"][1], rel=1e-5)


# all contestants, slowly


@pytest.mark.slow
@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore")  # of what torch.compile and JAX import
@pytest.mark.parametrize(("kind", "precision"), PAIRS)
def test_all_contestants_have_pytorchs_losses(kind, precision):
    for library in ("torch", "jax", "optax"):
        oracle(library)
    from headline import jax_steps, torch_steps

    work = Work(kind, 8, precision, small=True)
    reference = measure.measured(torch_steps.contestant(work, "eager", "cpu"), measure.DRY)["losses"]
    others = [(torch_steps, mode) for mode in torch_steps.MODES[1:]] + [(jax_steps, ""), (ours, "graph")]
    others += [(ours, mode) for mode in ("eager", "naive") if kind != "resnet9" and precision != "bf16"]
    for library, mode in others:
        found = measure.measured(library.contestant(work, mode, "cpu"), measure.DRY)["losses"]
        assert found == pytest.approx(reference, rel=table.AGREE), (library.__name__, mode)


class Stub:
    """torch.cuda on a machine without: a capture notes what is asked, a replay does it."""

    def __init__(self):
        self.captured, self.capturing = [], False
        self.Stream = self.current_stream = lambda: SimpleNamespace(wait_stream=lambda other: None)
        self.CUDAGraph = lambda: SimpleNamespace(replay=lambda: [work() for work in self.captured])

    def do(self, work):
        self.captured.append(work) if self.capturing else work()

    @contextlib.contextmanager
    def stream(self, stream):
        yield

    @contextlib.contextmanager
    def graph(self, graph, stream):
        self.capturing = True
        yield
        self.capturing = False


@pytest.mark.oracle
def test_pytorchs_whole_step_graph_makes_every_step_once_with_its_own_batch(monkeypatch):
    torch = oracle("torch")
    from headline import torch_steps

    stub, seen = Stub(), []
    monkeypatch.setattr(torch_steps.torch, "cuda", stub)
    run = torch_steps.replayed(
        lambda index: stub.do(lambda: seen.append(int(index))) or "loss", torch.tensor(-1)
    )
    for k in range(20):
        run(torch.tensor(k))
    assert seen == list(range(20)) and len(stub.captured) == 1


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("kind", "precision"), [("mlp", "tf32"), ("gpt4", "tf32"), ("resnet9", "bf16")])
def test_on_a_gpu_all_contestants_have_pytorchs_losses(kind, precision):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this torch has no CUDA")
    from headline import torch_steps

    work = Work(kind, 8, precision, small=True)
    found = {(library, mode): measure.measured(library.contestant(work, mode, "cuda"), measure.DRY)
             for library, modes in ((torch_steps, torch_steps.MODES), (ours, ("graph", "eager")))
             for mode in modes}  # fmt: skip
    reference = found[torch_steps, "eager"]["losses"]
    for (library, mode), figures_of in found.items():
        assert figures_of["losses"] == pytest.approx(reference, rel=table.AGREE), (library.__name__, mode)
        assert figures_of["why"] == ""


@pytest.mark.slow
@pytest.mark.oracle
def test_the_command_runs_in_processes():
    oracle("torch")
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--dry", "--rows", "H2", "H5"]
    done = subprocess.run(
        [*command, "--contestants", "torch eager"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all ran, with equal losses" in done.stdout and "| AdamW | 28 |" in done.stdout


@pytest.mark.slow
def test_a_rule_of_every_kind_has_its_line():
    names = ["SGD", "Lion", "MirrorDescent"]
    found = list(rates.measured(names, 3000, "cpu", measure.DRY))
    assert [f["rule"] for f in found] == names and not any("error" in f or f["differ"] for f in found)
    assert [f["moved"] for f in found] == [12, 20, None]
    assert json.loads(json.dumps(found)) == found
