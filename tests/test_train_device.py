"""The main job on a GPU that is not there (tests/fake_cupy): no read between two looks, and it resumes."""

import fake_cupy
import numpy as np
import pytest

import train
from minigrad import training
from models.configuration import runs

SHORT = "--model mlp --epochs 1 --device cuda".split()


@pytest.fixture
def device():
    with fake_cupy.installed() as device:
        yield device


@pytest.mark.parametrize(
    "args", [[], ["--clip", "1"], ["--accumulate", "2"], ["--ema", "0.9"], ["--amp", "bfloat16"]]
)
def test_a_step_of_the_main_job_reads_nothing(device, args):
    ((c, _),) = runs([*SHORT, *args])
    run = train.Run(c)
    stream = training.endless(run.task.train, c.accumulate)

    def step():
        run.window = next(stream)
        assert run.step() is not None
        if run.average is not None:
            run.average.update_parameters(run.model)

    for _ in range(2):
        step()
    with device.counting() as counted:
        step()
    assert counted.host_reads == [] and counted.synchronizations == []
    with device.counting() as looked:
        assert run.guard.sound()
    assert len(looked.host_reads) == 1


@pytest.mark.parametrize(("graph", "reads"), [("--graph", 0), ("--no-graph", 1)])
def test_a_float16_step_reads_one_flag_and_a_captured_one_none(device, graph, reads):
    ((c, _),) = runs([*SHORT, "--amp", "float16", graph])
    run = train.Run(c)
    stream = training.endless(run.source)
    for _ in range(4):
        run.window = next(stream)
        run.step()
    run.window = next(stream)
    with device.counting() as counted:
        run.step()
    assert len(counted.host_reads) == reads


def test_a_run_on_the_device_goes_on_to_the_same_bits(device, tmp_path):
    states = []
    for cut in (False, True):
        out = ["--out", str(tmp_path / str(cut)), "--save-every", "10", "--validation", "0.1"]
        train.main([*SHORT, *out])
        folder = tmp_path / str(cut) / "mlp-digits-adam-0"
        if cut:
            for step in (30, 37):
                training.Checkpoints(folder).path(step).unlink()
            train.main([*SHORT, *out, "--resume"])
        states.append(training.packed({**training.read(folder).state, "about": None})[0])
    assert states[0].keys() == states[1].keys()
    for name, t in states[0].items():
        assert np.array_equal(t.numpy(), states[1][name].numpy()), name
