"""train.py on a GPU captures its steps, and gives the numbers of a run that does not."""

import pytest
from capturing import fake_device


@pytest.fixture
def device():
    with fake_device() as device:
        yield device


@pytest.mark.parametrize(
    "more", [[], ["--accumulate", "2"], ["--schedule", "cosine", "--optimizer", "adamw"]]
)
def test_the_main_job_captures_its_steps_and_gives_the_same_numbers(device, tmp_path, capsys, more):
    import train

    scores, launches = [], []
    for k, switch in enumerate(("--graph", "--no-graph")):
        before = device.launches["graph"]
        out = str(tmp_path / str(k))
        scores += train.main(
            ["--model", "mlp", "--epochs", "3", "--device", "cuda", "--out", out, switch, *more]
        )
        launches.append(device.launches["graph"] - before)
    assert scores[0] == scores[1] and launches[0] > 50 and launches[1] == 0
    curves = [next((tmp_path / str(k)).glob("*/curve.jsonl")).read_text() for k in (0, 1)]
    assert curves[0] == curves[1]
    assert "not captured" not in capsys.readouterr().out
