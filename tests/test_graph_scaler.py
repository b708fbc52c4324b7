"""A captured step under GradScaler: it is left out on the device, unread, and the bits are eager's."""

import copy

import numpy as np
import pytest
from capturing import PROBLEMS, fake_device, nodes, problem, same

import minigrad as mg
from minigrad import amp, nn, optim

BAD = (5, 6, 17, 30, 31, 32, 49)  # steps whose loss is infinite


@pytest.fixture
def device():
    with fake_device() as device:
        yield device


class Loop:
    """Steps under a scaler, of which some are left out; captured or not."""

    def __init__(self, name, capture, rule=optim.AdamW, clip=1.0, schedule=None, scale=2.0**10, **options):
        self.model, self.loss_of, self.x, self.y = problem(name)
        self.optimizer = rule(self.model.parameters(), **{"lr": 1e-2} | options)
        self.scaler, self.clip = amp.GradScaler("cuda", scale, growth_interval=6), clip
        self.good, self.bad = (mg.tensor(v).to("cuda") for v in (1.0, np.inf))
        self.k, self.schedule, self.captured = 0, schedule, capture
        ahead = None if schedule is None else self.plan
        self.run = mg.graph.capture(self.step, schedule=ahead) if capture else self.step
        self.losses, self.flags = [], []

    def plan(self, n):
        self.optimizer.param_groups[0]["lr"] = self.schedule(self.k - self.scaler.skips + n)

    def step(self, factor, x, y):
        self.optimizer.zero_grad()
        with amp.autocast("cuda", dtype=mg.float16):
            loss = self.loss_of(self.model, x, y)
        self.scaler.scale(loss * factor).backward()
        self.scaler.step(self.optimizer, clip=self.clip)
        self.scaler.update()
        return loss, self.scaler.found_inf

    def __call__(self, bad=False, size=8):
        if self.schedule is not None and not self.captured:
            self.plan(0)
        at = 8 * self.k % 48
        factor = self.bad if bad else self.good
        loss, flag = self.run(factor, self.x[at : at + size], self.y[at : at + size])
        self.losses.append(loss)
        self.flags.append(mg.Tensor(flag.array.copy()))
        self.k += 1

    def counts(self):
        """What reads the device: all that the host is to know of skipped steps."""
        p = next(self.model.parameters())
        norm = None if self.scaler.grad_norm is None else float(self.scaler.grad_norm)
        return self.scaler.skipped, self.optimizer.steps[p], self.scaler.skips, norm, self.scaler.state_dict()

    def results(self):
        losses = [float(loss) if np.isfinite(float(loss)) else "not finite" for loss in self.losses]
        state = {n: t.cpu().numpy() for n, t in self.model.state_dict().items()}
        told = ([bool(f) for f in self.flags], self.counts())
        return [*losses, told], state, self.optimizer.state_dict()["state"]


def both(name, body, **options):
    """The eager and the captured loop after body(loop), which must be the same."""
    loops = []
    for capture in (False, True):
        loop = Loop(name, capture, **options)
        body(loop)
        loops.append((loop, loop.results()))
    same(loops[0][1], loops[1][1])
    eager, captured = (loop for loop, _ in loops)
    assert captured.run.why == "", captured.run.why
    return eager, captured


def fifty(loop):
    for k in range(50):
        loop(k in BAD)


@pytest.mark.parametrize("name", PROBLEMS)
def test_fifty_steps_of_which_seven_are_left_out_are_the_eager_ones_bit_for_bit(device, name):
    eager, captured = both(name, fifty)
    assert captured.run.graphs == 1 and [k for k, f in enumerate(captured.flags) if bool(f)] == list(BAD)
    assert device.launches["graph"] == 50 - 3 and eager.scaler.skips == captured.scaler.skips == 7


RULES = {
    "SGD": (optim.SGD, dict(momentum=0.9)),
    "NAdam": (optim.NAdam, {}),  # carries a product from step to step
    "LAMB": (optim.LAMB, {}),  # four launches a step
    "Adan": (optim.Adan, {}),  # begins with the first gradient
    "Rprop": (optim.Rprop, {}),
}


@pytest.mark.parametrize("rule", RULES)
def test_rules_that_know_more_of_their_steps(device, rule):
    kind, options = RULES[rule]

    def body(loop):
        told = []
        for k in range(34):
            loop(k in BAD)
            if k % 9 == 8:  # in between somebody looks
                told.append(loop.counts())
        loop.told = told

    eager, captured = both("dropout", body, rule=kind, clip=None, **options)
    assert eager.told == captured.told and captured.run.graphs == 1


def test_a_schedule_follows_the_steps_that_were_taken(device):
    """Said ahead: 300 steps, one table and the read that tells where it begins. Or written at every step."""

    def ahead(loop):
        for k in range(300):
            loop(k % 7 == 3)

    both("mlp", ahead, schedule=lambda taken: 1e-2 / (1 + taken))

    def by_skipped(loop):  # as the module's example
        cosine = optim.lr_scheduler.CosineAnnealingLR(loop.optimizer, 50)
        for k in range(40):
            loop(k in BAD)
            if not loop.scaler.skipped:
                cosine.step()

    def by_call(loop):
        cosine = optim.lr_scheduler.CosineAnnealingLR(loop.optimizer, 200)
        for k in range(150):
            loop(k % 7 == 3)
            cosine.step()

    both("mlp", by_skipped)
    both("mlp", by_call)
    both("mlp", by_call, rule=optim.NAdam)


def test_a_schedule_said_ahead_reads_once_a_table_and_uploads_nothing_else(device):
    loop = Loop("mlp", True, schedule=lambda taken: 1e-2 / (1 + taken))
    for k in range(300):
        with device.counting() as c:
            loop(k % 50 == 40)
        if k > 3:
            table = loop.k - 1 == 3 + 256
            assert len(c.host_reads) == bool(c.uploads) == table, k
            # factor, inputs, targets; loss, flag and the test's own of it
            assert c.launches == {"graph": 1, "copy": 6}
    assert loop.run.why == ""


def test_what_a_scaler_adds_to_a_captured_step_is_seven_launches(device):
    """The scale times the loss and times its gradient; unscale and one flag of it; the norm that is held, the
    count, the next scale."""
    found = []
    for scaled in (False, True):
        model, loss_of, x, y = problem("mlp")
        optimizer, scaler = optim.AdamW(model.parameters()), amp.GradScaler("cuda", enabled=scaled)

        def step(x, y, model=model, loss_of=loss_of, optimizer=optimizer, scaler=scaler):
            optimizer.zero_grad()
            scaler.scale(loss_of(model, x, y)).backward()
            scaler.step(optimizer, clip=1.0)
            scaler.update()

        run = mg.graph.capture(step)
        for _ in range(5):
            run(x[:8], y[:8])
        assert run.why == "" and run.graphs == 1
        found.append(nodes(run))
    more = found[1] - found[0]
    assert more == {"multiply": 2, "unscale": 1, "found_inf": 1, "hold": 1, "one_more": 1, "update_scale": 1}


def test_states_are_saved_and_loaded_between_steps_that_were_left_out(device):
    def body(loop):
        kept = None
        for k in range(30):
            if k == 8:
                kept = loop.optimizer.state_dict(), loop.scaler.state_dict()
                assert copy.deepcopy(loop.optimizer).state_dict()["state"][0]["step"] == 6
            if k == 20:
                loop.optimizer.load_state_dict(kept[0])
                loop.scaler.load_state_dict(kept[1])
            loop(k in BAD)

    both("mlp", body)


def test_steps_left_out_at_warm_up_do_not_count_as_warm_up(device):
    """A scale that is too large at first: a rule that begins with its first gradient must have begun."""

    def body(loop):
        for k in range(20):
            loop(k < 5)

    for rule in (optim.AdamW, optim.Adan, optim.Prodigy if optim.Prodigy.steady else optim.Rprop):
        _eager, captured = both("mlp", body, rule=rule, scale=2.0**24)
        assert captured.run.graphs == 1


def test_short_batches_and_other_shapes_in_between(device):
    def body(loop):
        for k in range(40):
            loop(k in BAD, size=(8, 8, 8, 6)[k % 4] if k < 20 else (8, 12)[k % 2])

    _eager, captured = both("mlp", body)
    assert captured.run.graphs == 2


def test_accumulation_is_two_captured_functions(device):
    def once(capture):
        model, loss_of, x, y = problem("dropout")
        optimizer, scaler = optim.AdamW(model.parameters(), lr=1e-2), amp.GradScaler("cuda", 2.0**8)
        factors = [mg.tensor(v).to("cuda") for v in (1 / 3, np.inf)]

        def forward_backward(factor, x, y):
            loss = loss_of(model, x, y) * factor
            scaler.scale(loss).backward()
            return loss

        def update():
            scaler.step(optimizer, clip=1.0)
            scaler.update()
            optimizer.zero_grad()

        first, second = forward_backward, update
        if capture:
            first, second = mg.graph.capture(first), mg.graph.capture(second)
        for k in range(36):
            first(factors[k in (14, 30)], x[k % 32 : k % 32 + 4], y[k % 32 : k % 32 + 4])
            if k % 3 == 2:
                second()
        assert not capture or (first.graphs, second.graphs, first.why, second.why) == (2, 1, "", "")
        optimizer.settle()
        return scaler.state_dict(), scaler.skips, [p.tolist() for p in model.parameters()]

    assert once(False) == once(True)


def test_two_optimizers_are_left_out_each_by_itself(device):
    """One has inf at some steps, the other at others, and a third is stepped without the scaler."""

    def once(capture):
        models = [problem("mlp")[0] for _ in range(3)]
        _, loss_of, x, y = problem("mlp")
        rules = [
            rule(m.parameters(), lr=1e-2) for m, rule in zip(models, (optim.AdamW, optim.NAdam, optim.SGD))
        ]
        scaler = amp.GradScaler("cuda", 2.0**8, growth_interval=4)

        def step(a, b, x, y):
            for rule in rules:
                rule.zero_grad()
            for model, factor in zip(models, (a, b)):
                scaler.scale(loss_of(model, x, y) * factor).backward()
            loss_of(models[2], x, y).backward()
            for rule in rules[:2]:
                scaler.step(rule)
            rules[2].step()
            scaler.update()

        run = mg.graph.capture(step) if capture else step
        good, bad = (mg.tensor(v).to("cuda") for v in (1.0, np.inf))
        for k in range(40):
            if k == 25:
                rules[0].param_groups[0]["lr"] = 3e-3
            run(bad if k % 5 == 4 else good, bad if k % 7 == 4 else good, x[:8], y[:8])
        assert not capture or (run.why == "" and run.graphs == 1)
        steps = [rule.steps[rule.param_groups[0]["params"][0]] for rule in rules]
        return steps, scaler.state_dict(), [p.tolist() for m in models for p in m.parameters()]

    eager, captured = once(False), once(True)
    assert eager == captured and eager[0] == [32, 34, 40]


def test_factors_of_the_scale_that_change_are_captured_anew(device):
    def body(loop):
        for k in range(24):
            if k == 10:
                loop.scaler.set_growth_factor(4.0)
                loop.scaler.set_growth_interval(3)
            loop(k in BAD)

    both("mlp", body)


def test_unscale_and_adaptive_clipping_are_part_of_it(device):
    def body(loop):
        def step(factor, x, y):
            loop.optimizer.zero_grad()
            loss = loop.loss_of(loop.model, x, y)
            loop.scaler.scale(loss * factor).backward()
            loop.scaler.unscale_(loop.optimizer)
            nn.utils.clip_grad_adaptive_(loop.model.parameters(), 0.01)
            loop.scaler.step(loop.optimizer)
            loop.scaler.update()
            return loss, loop.scaler.found_inf

        loop.run = mg.graph.capture(step) if loop.captured else step
        for k in range(20):
            loop(k in BAD)

    both("mlp", body)


def test_a_scaler_that_is_not_updated_in_the_same_function_is_refused(device):
    loop = Loop("mlp", False)

    def step(x, y):
        loop.optimizer.zero_grad()
        loop.scaler.scale(loop.loss_of(loop.model, x, y)).backward()
        loop.scaler.step(loop.optimizer)

    run = mg.graph.capture(step)
    for _ in range(6):
        run(loop.x[:8], loop.y[:8])
        loop.scaler.update()
    assert "a GradScaler's unscale_, step and update are not in one captured function" in run.why
    assert loop.counts()[1] == 6


def test_a_scale_given_by_hand_is_refused(device):
    loop = Loop("mlp", False)

    def step(x, y):
        loop.optimizer.zero_grad()
        loop.scaler.scale(loop.loss_of(loop.model, x, y)).backward()
        loop.scaler.step(loop.optimizer)
        loop.scaler.update(128.0)

    run = mg.graph.capture(step)
    for _ in range(5):
        run(loop.x[:8], loop.y[:8])
    assert "GradScaler.update is given a scale" in run.why and loop.scaler.get_scale() == 128


@pytest.mark.gpu
@pytest.mark.parametrize("name", PROBLEMS)
def test_on_a_gpu_steps_that_are_left_out_are_the_eager_ones(name):
    _eager, captured = both(name, fifty)
    assert captured.run.graphs == 1 and [k for k, f in enumerate(captured.flags) if bool(f)] == list(BAD)
