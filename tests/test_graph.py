"""mg.graph.capture: a captured step gives the bits of an eager one, in as many launches as counted."""

import numpy as np
import pytest
from capturing import PROBLEMS, captured_step, fake_device, gpt, plain, problem, same, text_loss, trained

import minigrad as mg
from minigrad import amp, nn, optim
from models import MLP


@pytest.fixture
def device():
    with fake_device() as device:
        yield device


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


def test_a_step_of_the_mlp_is_19_launches_and_the_copy_of_its_batch(device):
    """tick; 3 products, 2 with bias+relu, 1 with a bias; cross-entropy 2, its gradient 1; products: 3 for
    weights, 2 for inputs; 3 sums for biases; AdamW."""
    model, loss_of, x, y = problem("mlp")
    model = MLP([12, 16, 8, 5]).to("cuda")
    found = captured_step(model, loss_of, (x[:8], y[:8]), optim.AdamW(model.parameters()))
    assert found.total() == 19, found


@pytest.mark.parametrize(("layers", "least", "most"), [(4, 125, 150), (6, 181, 210)])
def test_a_step_of_the_gpt_is_as_many_launches_as_counted(device, layers, least, most):
    """Tied, without biases, clipped. A block: 10 forward, 18 backward."""
    mg.manual_seed(0)
    model = gpt(layers=layers).to("cuda")
    x = mg.tensor(np.arange(16).reshape(2, 8) % 11).to("cuda")
    found = captured_step(model, text_loss, (x, x), optim.AdamW(model.parameters()), clip=1.0)
    assert found.total() == 28 * layers + 23 and least <= found.total() <= most, found
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
        assert mg.random.philox_state() == (77, 7)
        return outs

    results = [once(capture) for capture in (False, True)]
    assert results[0] == results[1]


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


@pytest.mark.gpu
@pytest.mark.parametrize("name", PROBLEMS)
def test_on_a_gpu_captured_steps_are_the_eager_ones(name):
    eager, captured = (trained(name, capture=c, steps=20) for c in (False, True))
    same(eager, captured)
    assert captured[3].graphs == 1 and captured[3].why == ""
