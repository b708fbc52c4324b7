"""mg.save and mg.load: PyTorch's call shape, one safetensors file, nothing executed."""

import argparse
import enum
import io
import math
import pickle
import zipfile
from collections import Counter, OrderedDict, defaultdict, namedtuple
from pathlib import Path

import fake_cupy
import numpy as np
import pytest

import minigrad as mg
from minigrad import amp, nn, optim, training
from minigrad.checkpoint import CheckpointError
from minigrad.optim import lr_scheduler
from minigrad.optim.swa_utils import AveragedModel


def equal(a, b):
    """The same nest in types, order and bits."""
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert list(a) == list(b) and [type(k) for k in a] == [type(k) for k in b]
        return all(equal(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(equal, a, b))
    if isinstance(a, mg.Tensor):
        assert a.dtype is b.dtype and a.requires_grad == b.requires_grad
        return equal(a.detach().numpy(), b.detach().numpy())
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    return a == b or (a != a and b != b)


def through(obj, tmp_path, **options):
    mg.save(obj, tmp_path / "a.pt")
    return mg.load(tmp_path / "a.pt", **options)


VALUES = {
    "a dictionary in its order": {"z": 1, "a": {"y": 2, "b": 3}, "": 0, "__metadata__": mg.ones(2)},
    "keys": {0: "a", 1.5: "b", True: 3, None: 4, (1, ("x", 2)): 5, "0": 6, "$": 7},
    "maps": {"o": OrderedDict([("b", mg.zeros(2)), (1, 2)]), "c": Counter({3: 2}), "empty": OrderedDict()},
    "rows": [(), [], (1, [2, (3,)]), mg.Size([2, 3])],
    "scalars": [None, True, False, 0, -(2**70), 0.1, -0.0, math.inf, math.nan, 5e-324, "ü\n\0\ud800"],
    "dtypes": [
        mg.zeros(2, dtype=getattr(mg, name)) for name in "float16 bfloat16 float64 int8 uint8 bool".split()
    ],
    "shapes": [mg.tensor(3), mg.zeros(0, 3), mg.arange(6).reshape(2, 3).t(), mg.zeros(2, 1, 1)],
    "gradients": [mg.ones(2, requires_grad=True), nn.Parameter(mg.ones(2)), nn.Parameter(mg.ones(1), False)],
    "arrays": [
        np.arange(3),
        np.float32(2) * np.ones((2, 0)),
        np.array(True),
        np.ones(2, np.uint16),
        np.ones((3, 2)).T,
    ],
    "one path twice": {"x": {"y": mg.ones(1)}, "x/y": mg.zeros(1), "x/y'": mg.ones(3)},
    "a path without a name": {"ü\ud800": mg.ones(1), "": mg.zeros(1)},
    "a tensor": mg.arange(3),
    "a number": 3,
}


@pytest.mark.parametrize("what", VALUES)
def test_what_training_scripts_save_comes_back_as_it_was(tmp_path, what):
    assert equal(VALUES[what], through(VALUES[what], tmp_path))
    assert [p.name for p in tmp_path.iterdir()] == ["a.pt"]


def test_numbers_of_numpy_are_pythons_and_arrays_native(tmp_path):
    found = through([np.float32(0.5), np.int64(3), np.bool_(True), {np.int64(2): 1}], tmp_path)
    assert equal(found, [0.5, 3, True, {2: 1}])
    swapped = np.arange(3, dtype=">f4")
    assert equal(through(swapped, tmp_path), np.arange(3, dtype="=f4"))


def test_what_is_loaded_can_be_written_to_and_is_its_own(tmp_path):
    base = mg.arange(4.0)
    found = through({"a": base, "view": base[1:], "array": np.ones(2)}, tmp_path)
    found["a"].zero_()
    found["array"][0] = 5
    assert found["view"].tolist() == [1, 2, 3] and base.tolist() == [0, 1, 2, 3]
    w = through(mg.ones(2, requires_grad=True) * 2, tmp_path)
    assert w.is_leaf and w.requires_grad


def test_the_file_is_safetensors_with_names_that_are_paths(tmp_path):
    from safetensors.numpy import load_file

    mg.save(
        {"model": {"w": mg.ones(2)}, "state": {0: {"m": mg.zeros(3)}}}, tmp_path / "new" / "a.safetensors"
    )
    assert sorted(load_file(tmp_path / "new" / "a.safetensors")) == ["model/w", "state/0/m"]
    mg.save(nn.Linear(2, 1).state_dict(), tmp_path / "a")
    assert sorted(load_file(tmp_path / "a")) == ["bias", "weight"]


# ------------------------------------------------------------------------------------ what scripts do with it


def fit(model, optimizer, scheduler, scaler, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        scaler.scale((model(mg.randn(5, 3)) ** 2).mean()).backward()
        scaler.step(optimizer)
        scaler.update()
        scheduler.step()


@pytest.mark.parametrize("rule", ["SGD", "AdamW", "Adafactor", "Lookahead", "Prodigy"])
def test_a_script_goes_on_to_the_same_bits(tmp_path, rule):
    def made():
        mg.manual_seed(1)
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
        params = list(model.parameters())
        if rule == "Lookahead":
            optimizer = optim.Lookahead(optim.Adam(params, lr=0.01), k=2)
        else:
            optimizer = getattr(optim, rule)(params, lr=0.01)
        return model, optimizer, lr_scheduler.MultiStepLR(optimizer, [2, 5]), amp.GradScaler("cpu")

    model, optimizer, scheduler, scaler = parts = made()
    fit(*parts, 3)
    checkpoint = dict(
        model=model.state_dict(), optimizer=optimizer.state_dict(), scheduler=scheduler.state_dict(),
        scaler=scaler.state_dict(), rng=mg.random.default_generator.get_state(), epoch=3,
    )  # fmt: skip
    mg.save(checkpoint, str(tmp_path / "checkpoint.pt"))
    fit(*parts, 4)

    model2, optimizer2, scheduler2, scaler2 = others = made()
    found = mg.load(str(tmp_path / "checkpoint.pt"), map_location=mg.device("cpu"), weights_only=True)
    model2.load_state_dict(found["model"])
    optimizer2.load_state_dict(found["optimizer"])
    scheduler2.load_state_dict(found["scheduler"])
    scaler2.load_state_dict(found["scaler"])
    mg.random.default_generator.set_state(found["rng"])
    fit(*others, 4)
    for state, again in ((p.state_dict(), q.state_dict()) for p, q in zip(parts, others)):
        assert equal(training.packed(state)[1], training.packed(again)[1])
    assert all(equal(a, b) for a, b in zip(model.state_dict().values(), model2.state_dict().values()))


def test_the_states_of_all_schedulers_and_of_averages_can_be_saved(tmp_path):
    model = nn.Linear(2, 1)
    optimizer = optim.SGD(model.parameters(), 0.1, momentum=0.9)
    made = [
        lr_scheduler.LambdaLR(optimizer, lambda t: 0.9**t),
        lr_scheduler.StepLR(optimizer, 3),
        lr_scheduler.CyclicLR(optimizer, 0.01, 0.1),
        lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=10),
        lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 3),
        lr_scheduler.ReduceLROnPlateau(optimizer),
        lr_scheduler.ChainedScheduler(
            [lr_scheduler.LinearLR(optimizer), lr_scheduler.ExponentialLR(optimizer, 0.9)]
        ),
        AveragedModel(model),
    ]
    for part in made:
        part.load_state_dict(through(part.state_dict(), tmp_path))


def test_files_of_train_py_are_loaded_as_what_they_hold(tmp_path):
    checkpoints, model = training.Checkpoints(tmp_path), nn.Linear(2, 1)
    checkpoints.save_best(model.state_dict(), dict(score=0.5))
    checkpoints.save(4, dict(model=model.state_dict(), progress=dict(step=4)))
    nn.Linear(2, 1).load_state_dict(mg.load(tmp_path / "best.safetensors"))
    found = mg.load(checkpoints.path(4))
    assert found["progress"] == {"step": 4} and equal(found["model"]["bias"], model.bias.detach())


def test_files_that_are_open(tmp_path):
    buffer = io.BytesIO()
    mg.save({"a": mg.ones(2)}, buffer)
    buffer.seek(0)
    assert mg.load(buffer)["a"].tolist() == [1, 1]
    with open(tmp_path / "a", "wb") as file:
        mg.save([1], file)
    with open(tmp_path / "a", "rb") as file:
        assert mg.load(file) == [1]
    (tmp_path / "text").write_text("a")
    with open(tmp_path / "text") as file, pytest.raises(TypeError, match="gives str; open it for bytes"):
        mg.load(file)
    for call in (lambda: mg.save([1], 3), lambda: mg.load(3)):
        with pytest.raises(TypeError, match="f is a int; it is a path, or a file open for bytes"):
            call()


# -------------------------------------------------------------------------------------------------- refusals

Pair = namedtuple("Pair", "x y")


class Colour(enum.IntEnum):
    RED = 1


class Words(list):
    pass


LINEAR = nn.Linear(1, 1)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (LINEAR, r"model/0 is a Linear; .* save its state_dict\(\)"),
        (optim.SGD(LINEAR.parameters(), 0.1), r"is a SGD; .* save its state_dict\(\)"),
        (mg.random.default_generator, r"is a Generator; .* save its get_state\(\)"),
        (lambda: 0, "is a function; .* leave it out"),
        (b"x", r"is a bytes; .* numpy\.frombuffer"),
        ({1, 2}, r"is a set; .* save sorted\(it\)"),
        (1j, "is a complex; .* its real and its imag"),
        (np.complex64(1), "is a complex64; .* its real and its imag"),
        (np.ones(2, np.complex64), "is a ndarray; .* not complex64"),
        (np.array([object()]), "is a ndarray; .* not object"),
        (np.ma.masked_array([1.0]), "is a MaskedArray; .* of no subclass"),
        (defaultdict(list), r"is a defaultdict; .* save dict\(it\)"),
        (Pair(1, 2), r"is a Pair; .* save its _asdict\(\)"),
        (Colour.RED, "is a Colour; .* save its value"),
        (Words(), r"is a Words; .* save list\(it\)"),
        (Path("a"), r"is a PosixPath; .* save str\(it\)"),
        (mg.float32, r"is a dtype; .* save str\(it\)"),
        (mg.device("cpu"), r"is a device; .* save str\(it\)"),
        (argparse.Namespace(lr=1), r"is a Namespace; .* save vars\(\) of the Namespace"),
        ({LINEAR.weight: 1}, "a key of model/0 is a Parameter; keys are strings"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_anything_else_is_refused_with_its_place_and_the_cure(tmp_path, value, says):
    with pytest.raises(TypeError, match=f"^save: .*{says}"):
        mg.save({"ok": mg.ones(1), "model": [value]}, tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_circles_and_abysses_are_refused(tmp_path):
    circle: dict = {"a": [1]}
    circle["a"].append(circle)
    with pytest.raises(TypeError, match="save: a/1 is a dict that contains itself"):
        mg.save(circle, tmp_path / "a")
    deep: list = []
    for _ in range(2000):
        deep = [deep]
    with pytest.raises(TypeError, match="is a list that lies in 100 others"):
        mg.save(deep, tmp_path / "a")
    twice = [1]
    assert through([twice, twice], tmp_path) == [[1], [1]]


class Evil:
    def __reduce__(self):
        return (open, ("executed", "w"))


def torch_like(path, content):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content)


@pytest.mark.parametrize("protocol", range(2, 6))
def test_a_pickle_is_refused_by_name_and_not_executed(tmp_path, monkeypatch, protocol):
    monkeypatch.chdir(tmp_path)
    content = pickle.dumps({"a": Evil()}, protocol)
    Path("a.pkl").write_bytes(content)
    torch_like("a.pt", content)
    with pytest.raises(CheckpointError, match=r"a\.pkl: a pickle, which could execute anything"):
        mg.load("a.pkl")
    with pytest.raises(CheckpointError, match=r"a\.pt: a pickle of torch\.save, .* minigrad\.save\("):
        mg.load("a.pt")
    assert not Path("executed").exists()


def test_what_pytorch_saved_is_refused_by_name(tmp_path):
    torch = pytest.importorskip("torch")
    for new in (True, False):
        torch.save({"a": torch.ones(2)}, tmp_path / "a.pt", _use_new_zipfile_serialization=new)
        with pytest.raises(CheckpointError, match=r"a\.pt: a pickle"):
            mg.load(tmp_path / "a.pt")


def test_missing_damaged_and_foreign_files_are_named(tmp_path):
    from safetensors.numpy import save_file

    with pytest.raises(FileNotFoundError, match="no such checkpoint"):
        mg.load(tmp_path / "none")
    with pytest.raises(CheckpointError, match="a directory, not a file"):
        mg.load(tmp_path)
    save_file({"a": np.ones(2)}, tmp_path / "other")
    with pytest.raises(CheckpointError, match="a safetensors file of something else"):
        mg.load(tmp_path / "other")
    mg.save({"a": mg.ones(2), "b": (1, 2)}, tmp_path / "a")
    content = (tmp_path / "a").read_bytes()
    for place in range(len(content)):
        (tmp_path / "a").write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(CheckpointError, match="/a: "):
            mg.load(tmp_path / "a")
        (tmp_path / "a").write_bytes(content[:place])
        with pytest.raises(CheckpointError, match="/a: "):
            mg.load(tmp_path / "a")


@pytest.mark.parametrize(
    "nest",
    [
        {"$": "code", "name": "os.system"},
        {"$": "tensor", "name": "other"},
        {"$": "tensor"},
        {"$": "map", "items": [[1, 2, 3]]},
        {"$": "map", "items": [[[1], 2]]},
        {"$": "map", "items": [], "of": "Popen"},
        {"$": "tuple", "items": 3},
        {"$": []},
    ],
    ids=str,
)
def test_a_nest_that_lies_is_refused_though_its_sum_fits(tmp_path, nest):
    from minigrad import checkpoint

    checkpoint.save(tmp_path / "a", {"a": mg.ones(1)}, dict(kind="object", object=nest))
    with pytest.raises(CheckpointError, match="its object cannot be read"):
        mg.load(tmp_path / "a")


# ---------------------------------------------------------------------------------------------- map_location


def on_a_gpu(path):
    """A file whose Tensor was on a GPU, written without one."""
    from minigrad import checkpoint
    from minigrad.nest import packed

    tensors, nest = packed({"w": mg.ones(2), "v": mg.zeros(1)})
    nest["w"]["device"] = "cuda:1"
    checkpoint.save(path, tensors, dict(kind="object", object=nest))
    return path


@pytest.mark.parametrize(
    "where",
    ["cpu", mg.device("cpu"), {"cuda:1": "cpu"}, {mg.device("cuda:1"): mg.device("cpu")}, lambda t, name: t],
    ids=["name", "device", "names", "devices", "function"],
)
def test_map_location_brings_a_gpus_tensors_to_the_cpu(tmp_path, where):
    found = mg.load(on_a_gpu(tmp_path / "a"), where)
    assert found["w"].device == mg.device("cpu") and found["w"].tolist() == [1, 1]


def test_a_function_is_told_where_each_was(tmp_path):
    asked = []
    mg.load(on_a_gpu(tmp_path / "a"), map_location=lambda t, name: asked.append(name) or t)
    assert sorted(asked) == ["cpu", "cuda:1"]
    mg.load(on_a_gpu(tmp_path / "a"), lambda t, name: t if name != "cpu" else None)
    with pytest.raises(RuntimeError, match="map_location gives a str; it gives a Tensor, or None"):
        mg.load(tmp_path / "a", lambda t, name: name)
    with pytest.raises(RuntimeError, match=r"map_location fails for a Tensor of cpu: .*int"):
        mg.load(tmp_path / "a", lambda t, name: name + 1)
    with pytest.raises(TypeError, match="map_location is a int"):
        mg.load(tmp_path / "a", 3)
    with pytest.raises(ValueError, match="tpu"):
        mg.load(tmp_path / "a", "tpu")


def test_without_a_gpu_its_tensors_need_a_map_location(tmp_path):
    if mg.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(
        RuntimeError, match=r"has Tensors for cuda:1: .*; map_location='cpu' puts them on the CPU"
    ):
        mg.load(on_a_gpu(tmp_path / "a"))


def test_tensors_of_a_gpu_go_back_there_or_where_they_are_wanted(tmp_path):
    with fake_cupy.installed():
        w = mg.arange(3, device="cuda")
        mg.save({"w": w, "b": mg.ones(1), "p": nn.Parameter(mg.ones(2, device="cuda"))}, tmp_path / "a")
        found = mg.load(tmp_path / "a")
        assert [str(t.device) for t in found.values()] == ["cuda:0", "cpu", "cuda:0"]
        assert found["w"].tolist() == [0, 1, 2] and found["p"].is_leaf and found["p"].requires_grad
        for where, expected in (("cpu", "cpu"), ("cuda", "cuda:0"), (mg.device("cuda:0"), "cuda:0")):
            assert {str(t.device) for t in mg.load(tmp_path / "a", where).values()} == {expected}
    with pytest.raises(RuntimeError, match="map_location='cpu'"):
        mg.load(tmp_path / "a")
    assert mg.load(tmp_path / "a", "cpu")["w"].tolist() == [0, 1, 2]
