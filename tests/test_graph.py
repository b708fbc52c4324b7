"""mg.graph.capture: a captured step gives the bits of an eager one, and says why where it runs eagerly.

On a GPU that is not there (tests/fake_cupy): a capture refuses host reads, uploads, waits, pool growth and
new kernels, a replay works on the same memory, which pools really hand out again.
"""

import gc

import fake_cupy
import numpy as np
import pytest
from fake_cupy import cublas

import minigrad as mg
from minigrad import amp, nn, optim
from minigrad.nn import functional as F
from models import GPT, MLP, GPTConfig, SmallCNN


@pytest.fixture
def device(monkeypatch):
    monkeypatch.setattr(mg.graph, "_reasons", [])
    cublas.refusals.clear()
    with fake_cupy.installed() as device:
        yield device
        assert cublas.refusals == []


class Dropping(nn.Module):
    """An MLP with dropout between its layers."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.drop = nn.Linear(12, 16), nn.Linear(16, 5), nn.Dropout(0.3)

    def forward(self, x):
        return self.second(self.drop(F.relu(self.first(x))))


def gpt(dropout=0.0, layers=2, context=8):
    return GPT(GPTConfig(11, context, layers, heads=2, width=8, dropout=dropout, bias=False, tied=True))


def text_loss(model, x, y):
    return F.cross_entropy(model(x).flatten(0, 1), y.flatten())


def image_loss(model, x, y):
    return F.cross_entropy(model(x), y)


PROBLEMS = {
    "mlp": (lambda: MLP([12, 16, 5]), image_loss, (12,), 5),
    "dropout": (Dropping, image_loss, (12,), 5),
    "cnn": (lambda: SmallCNN(1, 8, 5, (3, 4), dropout=0.2), image_loss, (1, 8, 8), 5),
    "gpt": (lambda: gpt(0.1), text_loss, None, 11),
    "gpt without dropout": (gpt, text_loss, None, 11),
}


def problem(name, examples=64):
    """model, loss, inputs, targets on the device."""
    make, loss, shape, classes = PROBLEMS[name]
    mg.manual_seed(1)
    model, rng = make().to("cuda"), np.random.default_rng(2)
    if shape is None:
        x, y = (mg.tensor(rng.integers(0, classes, (examples, 8))).to("cuda") for _ in range(2))
    else:
        x = mg.tensor(rng.standard_normal((examples, *shape)).astype("f4")).to("cuda")
        y = mg.tensor(rng.integers(0, classes, examples)).to("cuda")
    return model, loss, x, y


def plain(model, loss_of, optimizer):
    def step(*batch):
        optimizer.zero_grad()
        loss = loss_of(model, *batch)
        loss.backward()
        optimizer.step()
        return loss

    return step


def trained(name, capture, steps=50, rule=optim.AdamW, sizes=(8,), scheduled=True, clip=1.0, **options):
    """(losses, weights and buffers, the optimizer's state, the captured function or None)"""
    model, loss_of, x, y = problem(name)
    optimizer = rule(model.parameters(), **{"lr": 1e-2} | options)
    cosine = optim.lr_scheduler.CosineAnnealingLR(optimizer, steps) if scheduled else None

    def step(x, y):
        optimizer.zero_grad()
        loss = loss_of(model, x, y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        return loss

    run = mg.graph.capture(step) if capture else step
    losses, at = [], 0
    for k in range(steps):
        size = sizes[k % len(sizes)]
        losses.append(run(x[at : at + size], y[at : at + size]))
        at = (at + size) % 48
        if cosine is not None:
            cosine.step()
    state = {n: t.cpu().numpy() for n, t in model.state_dict().items()}
    held = optimizer.state_dict()["state"]
    return [float(loss) for loss in losses], state, held, run if capture else None


def host(value):
    return value.cpu().numpy() if isinstance(value, mg.Tensor) else value


def same(eager, captured):
    assert eager[0] == captured[0]
    assert all(np.array_equal(a, captured[1][n]) for n, a in eager[1].items())
    for k, slots in eager[2].items():
        assert all(np.array_equal(host(v), host(captured[2][k][n])) for n, v in slots.items())


@pytest.mark.parametrize("name", PROBLEMS)
def test_fifty_captured_steps_are_the_eager_ones_bit_for_bit(device, name):
    """AdamW, a cosine schedule by a scheduler, clipping, dropout."""
    eager = trained(name, capture=False)
    before = device.launches["graph"]
    captured = trained(name, capture=True)
    same(eager, captured)
    assert captured[3].graphs == 1 and captured[3].why == "" and mg.graph.why() == ""
    assert device.launches["graph"] - before == 50 - 3  # three warm-up steps


RULES = {
    "SGD": (optim.SGD, dict(momentum=0.9)),
    "Adam": (optim.Adam, dict(amsgrad=True)),
    "NAdam": (optim.NAdam, {}),  # carries a product from step to step
    "RAdam": (optim.RAdam, {}),
    "LAMB": (optim.LAMB, {}),  # four launches a step
    "LARS": (optim.LARS, {}),
    "Lion": (optim.Lion, dict(lr=1e-3)),
}


@pytest.mark.parametrize("rule", RULES)
def test_rules_give_the_same_bits_captured(device, rule):
    kind, options = RULES[rule]
    runs = [
        trained("dropout", c, 12, kind, scheduled=s, **options) for s in (True, False) for c in (False, True)
    ]
    for eager, captured in (runs[:2], runs[2:]):
        same(eager, captured)
        assert captured[3].graphs == 1, captured[3].why


def test_a_replay_reads_nothing_and_allocates_only_its_results(device):
    model, loss_of, x, y = problem("gpt without dropout")
    optimizer = optim.AdamW(model.parameters())

    run = mg.graph.capture(plain(model, loss_of, optimizer))
    for _ in range(5):
        run(x[:4], y[:4])
    with device.counting() as c:
        run(x[4:8], y[4:8])
    assert c.launches == {"graph": 1, "copy": 3}  # inputs, targets, the loss
    assert (c.host_reads, c.uploads, c.synchronizations, c.python_scalars) == ([], [], [], [])
    assert c.allocations == 1


def nodes(run):
    (made,) = [entry.made for entry in run.entries.values() if entry.made is not None]
    return fake_cupy.cuda.nodes(made)


def captured_step(model, loss_of, batch, optimizer, clip=None):
    def step(*batch):
        optimizer.zero_grad()
        loss = loss_of(model, *batch)
        loss.backward()
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        return loss

    run = mg.graph.capture(step)
    for _ in range(4):
        run(*batch)
    assert run.why == ""
    return nodes(run)


def test_a_step_of_the_mlp_is_19_launches_and_the_copy_of_its_batch(device):
    """tick; 3 products, 2 with bias+relu, 1 with a bias; cross-entropy 2, its gradient 1; products: 3 for
    weights, 2 for inputs; 3 sums for biases; AdamW."""
    model, loss_of, x, y = problem("mlp")
    model = MLP([12, 16, 8, 5]).to("cuda")
    found = captured_step(model, loss_of, (x[:8], y[:8]), optim.AdamW(model.parameters()))
    assert found.total() == 19, found


@pytest.mark.parametrize(("layers", "least", "most"), [(4, 125, 150), (6, 181, 210)])
def test_a_step_of_the_gpt_is_as_many_launches_as_counted(device, layers, least, most):
    """Tied, without biases, clipped. A block: 10 forward, 20 backward, of which two are sums of gradients."""
    mg.manual_seed(0)
    model = gpt(layers=layers).to("cuda")
    x = mg.tensor(np.arange(16).reshape(2, 8) % 11).to("cuda")
    found = captured_step(model, text_loss, (x, x), optim.AdamW(model.parameters()), clip=1.0)
    assert found.total() == 30 * layers + 23 and least <= found.total() <= most, found
    assert found["matmul"] == 18 * layers + 5 and found["adam"] == 1 and found["tick"] == 1


def test_short_batches_run_eagerly_and_new_shapes_get_graphs(device):
    """7 is an epoch's last batch; then twice as large ones come for good."""
    sizes = [8, 8, 8, 8, 8, 7] * 3 + [16] * 6
    runs = [trained("dropout", c, len(sizes), sizes=sizes) for c in (False, True)]
    same(*runs)
    assert runs[1][3].graphs == 2
    assert device.launches["graph"] == 15 - 3 + 6 - 3


def test_training_and_evaluation_are_two_graphs(device):
    model, _loss_of, x, _y = problem("dropout")
    run = mg.graph.capture(lambda x: model(x))
    outs = {}
    for mode in (True, False):
        model.train(mode)
        outs[mode] = [run(x[:4]).tolist() for _ in range(6)]
    assert run.graphs == 2
    assert outs[False] == [outs[False][0]] * 6 and len({str(o) for o in outs[True]}) == 6
    assert outs[False][0] == model(x[:4]).tolist()


def test_scalars_follow_whoever_writes_param_groups(device):
    """A learning rate set by hand at some steps, and back; state loaded from an earlier step."""

    def once(capture):
        model, loss_of, x, y = problem("mlp")
        optimizer = optim.AdamW(model.parameters(), lr=1e-2)

        step = plain(model, loss_of, optimizer)

        run = mg.graph.capture(step) if capture else step
        losses, kept = [], None
        for k in range(24):
            if k in (7, 8, 15):
                optimizer.param_groups[0]["lr"] = 0.1 / k
            if k == 10:
                kept = optimizer.state_dict()
            if k == 18:
                optimizer.load_state_dict(kept)
            if k == 20:
                optimizer.param_groups[0]["amsgrad"] = True  # another kernel: a new graph
            losses.append(run(x[:8], y[:8]))
        assert not capture or (run.why == "" and run.graphs > 0)
        return [float(loss) for loss in losses]

    results = [once(capture) for capture in (False, True)]
    assert results[0] == results[1]


def test_a_schedule_said_ahead_is_uploaded_once_a_table(device):
    def once(capture):
        model, loss_of, x, y = problem("mlp")
        optimizer = optim.AdamW(model.parameters())
        done = [0]

        def schedule(ahead):
            optimizer.param_groups[0]["lr"] = 1e-2 / (1 + done[0] + ahead)

        step = plain(model, loss_of, optimizer)

        run = mg.graph.capture(step, schedule=schedule)
        if not capture:
            run.why = "an eager one to compare with"
        losses = []
        for k in range(300):
            done[0] = k
            with device.counting() as c:
                losses.append(run(x[:8], y[:8]))
            assert optimizer.param_groups[0]["lr"] == 1e-2 / (1 + k)
            if capture and k > 4:
                assert len(c.uploads) == (k == 3 + 256)
        assert not capture or (run.why == "" and run.graphs > 0)
        return [float(loss) for loss in losses]

    results = [once(capture) for capture in (False, True)]
    assert results[0] == results[1]


def test_accumulation_is_two_captured_functions(device):
    def once(capture):
        model, loss_of, x, y = problem("dropout")
        optimizer = optim.AdamW(model.parameters(), lr=1e-2)

        def forward_backward(x, y):
            loss = loss_of(model, x, y) / 3
            loss.backward()
            return loss

        def update():
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

        first, second = forward_backward, update
        if capture:
            first, second = mg.graph.capture(first), mg.graph.capture(second)
        losses = []
        for k in range(30):
            at = 4 * k % 32
            losses.append(first(x[at : at + 4], y[at : at + 4]))
            if k % 3 == 2:
                second()
                assert all(p.grad is None for p in model.parameters())
        assert not capture or (first.graphs, second.graphs) == (2, 1)
        return ([float(loss) for loss in losses], [p.tolist() for p in model.parameters()])

    results = [once(capture) for capture in (False, True)]
    assert results[0] == results[1]
    assert mg.graph.why() == ""


def test_gradients_and_steps_are_left_as_the_step_would(device):
    model, loss_of, x, y = problem("mlp")
    optimizer = optim.Adam(model.parameters())

    run = mg.graph.capture(plain(model, loss_of, optimizer))
    p = next(model.parameters())
    for k in range(8):
        version = p._version
        run(x[:8], y[:8])
        assert optimizer.steps[p] == k + 1 and p.grad is p.slot and p._version > version
    mg.manual_seed(5)
    graph_of = (model(x[:8]) ** 2).sum()
    run(x[:8], y[:8])
    with pytest.raises(RuntimeError, match="modified in place"):  # as after an eager step
        graph_of.backward()


def test_dropout_goes_on_from_wherever_the_generator_is(device):
    """Seeds set anew and draws in between: captured steps draw what eager ones would."""

    def once(capture):
        model, _loss_of, x, _y = problem("dropout")
        run = mg.graph.capture(lambda x: model(x)) if capture else (lambda x: model(x))
        outs = []
        for k in range(12):
            if k == 6:
                mg.manual_seed(77)
            if k == 9:
                model(x[:2])  # draws from the same stream
            outs.append(run(x[:4]).tolist())
        assert not capture or (run.why == "" and run.graphs > 0)
        return outs
        assert mg.random.philox_state() == (77, 7)

    results = [once(capture) for capture in (False, True)]
    assert results[0] == results[1]


# what cannot be captured


def step_with(change, rule=optim.AdamW, **options):
    """(captured, batch): a step in which something happens."""
    model, loss_of, x, y = problem("mlp")
    optimizer = rule(model.parameters(), **options)

    def step(x, y):
        optimizer.zero_grad()
        loss = loss_of(model, x, y)
        loss.backward()
        change(model, optimizer, loss, x)
        return loss

    return mg.graph.capture(step), (x[:8], y[:8])


def closure(model, optimizer, loss, x):
    optimizer.step(lambda: loss)


def read(model, optimizer, loss, x):
    optimizer.step()
    float(loss)


def upload(model, optimizer, loss, x):
    optimizer.step()
    return mg.tensor([1.0, 2.0]).to("cuda") + 1


def by_hand(model, optimizer, loss, x):
    with mg.no_grad():
        for p in model.parameters():
            p -= 0.1 * p.grad


def hooked_step(model, optimizer, loss, x):
    optimizer.register_step_post_hook(lambda *args: None)
    optimizer.step()


def hooked_module(model, optimizer, loss, x):
    model.register_forward_hook(lambda *args: None)
    optimizer.step()


def hooked_gradient(model, optimizer, loss, x):
    next(model.parameters()).register_hook(lambda g: None)
    optimizer.step()


REFUSED = {
    "a closure": (closure, r"AdamW\.step is given a closure \(test_graph\.py, line \d+, in closure\)"),
    "a host read": (read, r"a value of the device is read on the host \(test_graph\.py, line \d+, in read\)"),
    "an upload": (upload, r"an array of the host is uploaded \(test_graph\.py, line \d+, in upload\)"),
    "an update by hand": (by_hand, "parameters change otherwise than by the step of an optimizer"),
    "a hook of the optimizer": (hooked_step, "a hook of AdamW"),
    "a hook of a module": (hooked_module, "a hook of MLP"),
    "a hook of a gradient": (hooked_gradient, "a hook of a gradient"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_runs_eagerly_and_says_why(device, name):
    import re

    change, reason = REFUSED[name]
    run, batch = step_with(change)
    losses = [float(run(*batch)) for _ in range(6)]
    assert losses[-1] < losses[0]  # the steps were made
    assert re.search(reason, run.why) and run.graphs == 0 and device.launches["graph"] == 0
    assert mg.graph.why().startswith("step_with.<locals>.step runs eagerly: ") and run.why in mg.graph.why()
    assert "eagerly" not in repr(run) and run.why in repr(run)


@pytest.mark.parametrize("rule", ["SAM", "Lookahead"])
def test_optimizers_with_steps_of_their_own_are_refused_by_name(device, rule):
    def make(params):
        inner = optim.SGD(params, lr=0.1)
        return getattr(optim, rule)(inner)

    if rule == "SAM":

        def change(model, optimizer, loss, x):
            optimizer.step(lambda: loss)
    else:

        def change(model, optimizer, loss, x):
            optimizer.step()

    run, batch = step_with(change, make)
    if rule == "SAM":
        model, loss_of, _x, _y = problem("mlp")
        optimizer = make(model.parameters())

        def step(x, y):
            def closure():
                optimizer.zero_grad()
                loss = loss_of(model, x, y)
                loss.backward()
                return loss

            return optimizer.step(closure)

        run = mg.graph.capture(step)
    for _ in range(5):
        run(*batch)
    assert f"{rule} has a step of its own kind" in run.why and run.graphs == 0


def test_on_the_cpu_it_says_so_and_steps_run(device):
    model = MLP([12, 8, 5])
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    x, y = mg.randn(8, 12), mg.randint(0, 5, (8,))

    def step(x, y):
        optimizer.zero_grad()
        loss = image_loss(model, x, y)
        loss.backward()
        optimizer.step()
        return loss

    run = mg.graph.capture(step)
    losses = [float(run(x, y)) for _ in range(5)]
    assert losses == sorted(losses, reverse=True)
    assert run.why == "the step runs on the CPU; graphs are CUDA's" and device.launched == 0


def test_batches_on_the_cpu_are_refused_with_the_cure(device):
    model, loss_of, x, y = problem("mlp")
    run = mg.graph.capture(lambda x, y: loss_of(model, x.to("cuda"), y))
    for _ in range(5):
        run(x[:8].cpu(), y[:8])
    assert run.why == "Tensor 0 of the arguments is on the CPU; give the loader device='cuda'"


def test_without_cublas_it_says_so():
    with fake_cupy.installed(cublas=False):
        run, batch = step_with(lambda model, optimizer, loss, x: optimizer.step())
        for _ in range(5):
            run(*batch)
        assert "cupy.matmul serves, and steps cannot be captured" in run.why


def test_an_error_in_the_step_comes_through_and_leaves_no_capture(device):
    """Whenever it comes: at warm-up, in the capture, and steps after it go on."""
    import cupy

    def fails(at):
        calls = [0]
        model, loss_of, x, y = problem("mlp")
        optimizer = optim.AdamW(model.parameters())

        def step(x, y):
            optimizer.zero_grad()
            loss = loss_of(model, x, y)
            loss.backward()
            if calls[0] >= at and fail[0]:
                raise KeyError("mine")
            calls[0] += 1
            optimizer.step()
            return loss

        run, fail, raised = mg.graph.capture(step), [True], 0
        for _ in range(5):
            try:
                run(x[:8], y[:8])
            except KeyError:
                raised += 1
                assert device.capture is None and gc.isenabled()
                fail[0] = False
        p = next(model.parameters())
        assert raised == (at < 4) and optimizer.steps[p] == 5 - raised
        assert float(cupy.ones(2).sum()) == 2

    for at in (0, 2, 3, 4):
        fails(at)


def test_memory_is_flat_and_other_arrays_are_not_overwritten(device):
    """Between replays arrays are made and kept; the graph's memory is its own."""
    import cupy

    model, loss_of, x, y = problem("gpt without dropout")
    optimizer = optim.AdamW(model.parameters())

    def step(x, y):
        optimizer.zero_grad()
        loss = loss_of(model, x, y)
        loss.backward()
        optimizer.step()
        return loss, {"logits": model(x)}

    run = mg.graph.capture(step)
    kept, used = [], []
    for k in range(20):
        loss, more = run(x[:4], y[:4])
        mine = [cupy.full(n, k, np.float32) for n in (1, 64, 700, 3000)]
        kept.append((loss, float(loss), mine, k))
        assert list(more) == ["logits"] and more["logits"].shape == (4, 8, 11)
        used.append(cupy.get_default_memory_pool().used_bytes())
    for loss, value, mine, k in kept:
        assert float(loss) == value and all((a.get() == k).all() for a in mine)
    assert len(set(np.diff(used[8:]))) == 1  # what is kept here, and nothing else


def test_moving_the_model_captures_anew(device):
    model, loss_of, x, y = problem("mlp")
    optimizer = optim.AdamW(model.parameters())

    run = mg.graph.capture(plain(model, loss_of, optimizer))
    losses = []
    for k in range(14):
        if k == 7:
            model.to("cpu"), model.to("cuda")
        losses.append(float(run(x[:8], y[:8])))
    assert losses == sorted(losses, reverse=True) and run.graphs == 1 and run.why == ""
    assert device.launches["graph"] == 7 - 3 + 7 - 3


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_autocast_is_captured_with_one_cast_of_the_parameters(device, dtype):
    def once(capture):
        model, loss_of, x, y = problem("gpt without dropout")
        optimizer = optim.AdamW(model.parameters(), lr=1e-2)

        def step(x, y):
            optimizer.zero_grad()
            with amp.autocast("cuda", dtype=getattr(mg, dtype)):
                loss = loss_of(model, x, y)
            loss.backward()
            optimizer.step()
            return loss

        run = mg.graph.capture(step) if capture else step
        losses = [float(run(x[:4], y[:4])) for _ in range(12)]
        assert not capture or (run.why == "" and run.graphs > 0)
        return losses

    results = [once(capture) for capture in (False, True)]
    assert results[0] == results[1]


def test_arguments_are_checked():
    with pytest.raises(TypeError, match="int is no function"):
        mg.graph.capture(3)
    with pytest.raises(ValueError, match="warmup=1; it is at least 2"):
        mg.graph.capture(print, warmup=1)


@pytest.mark.gpu
@pytest.mark.parametrize("name", PROBLEMS)
def test_on_a_gpu_captured_steps_are_the_eager_ones(name):
    eager, captured = (trained(name, capture=c, steps=20) for c in (False, True))
    same(eager, captured)
    assert captured[3].graphs == 1 and captured[3].why == ""


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
