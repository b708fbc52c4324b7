"""What rules over the whole vector promise: a step that raises has not happened, frozen parameters stay."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.optim.natural import NaturalGradient
from minigrad.optim.whole import WholeVector

OPTIONS = {
    "LBFGS": dict(max_iter=4),
    "LBFGS strong_wolfe": dict(max_iter=4, line_search_fn="strong_wolfe"),
    "NonlinearCG": dict(max_iter=4),
    "Newton": dict(max_iter=3, lr=0.5),
    "Newton levenberg": dict(max_iter=3, lr=0.5, adapt_damping=True),
    "NewtonCG": dict(max_iter=3),
    "NewtonCG trust": dict(max_iter=3, method="trust"),
    "CoordinateDescent": dict(coordinates=None),
    "GradientFlow": {},
    "GradientFlow rk45": dict(method="rk45"),
    "NesterovFlow": {},
    "NaturalGradient": dict(loss="mse", levenberg_marquardt=True, warm_start=0.9),
    "EvolutionStrategy": {},
    "CMAES": {},
    "CMAES diagonal": dict(covariance="diagonal"),
    "SimulatedAnnealing": dict(noisy=True),
    "BayesianOptimization": {},
}
SEARCHES = ("EvolutionStrategy", "CMAES", "CMAES diagonal", "SimulatedAnnealing", "BayesianOptimization")


class Case:
    """A rule on a smooth loss of three parameters of different types; the middle one may be frozen."""

    def __init__(self, name, frozen=False):
        self.a = nn.Parameter(mg.tensor([[0.9, -0.5]], dtype="float32"))
        self.b = nn.Parameter(mg.tensor([1.0, -1.0, 0.5], dtype="float64"))
        self.c = nn.Parameter(mg.tensor([0.7], dtype="float32"))
        self.params = [self.a, self.b, self.c]
        self.b.requires_grad_(not frozen)
        self.optimizer = getattr(optim, name.split()[0])(self.params, **OPTIONS[name])
        self.calls, self.failing = 0, 0
        if isinstance(self.optimizer, NaturalGradient):
            self.optimizer.outputs = lambda: self.vector().reshape(1, -1)

    def vector(self):
        return mg.cat([p.reshape(-1).double() for p in self.params])

    def closure(self):
        self.calls += 1
        self.optimizer.zero_grad()
        x = self.vector() - 0.2
        loss = (x * x * mg.tensor([1.0, 5.0, 2.0, 1.0, 3.0, 4.0], dtype="float64")).sum() + (x**4).sum()
        if loss.requires_grad:
            loss.backward()
        if self.calls == self.failing:
            raise KeyError("a bad batch")
        return loss

    def step(self, failing=0):
        """How many calls it took."""
        self.calls, self.failing = 0, failing
        self.optimizer.step(self.closure)
        return self.calls

    def bits(self):
        """Parameters, state and options, to the bit."""

        def of(v):
            if isinstance(v, (list, tuple)):
                return [of(e) for e in v]
            return (str(v.dtype), tuple(v.shape), v.array.tobytes()) if isinstance(v, mg.Tensor) else repr(v)

        state = {
            i: {k: of(v) for k, v in held.items()} for i, held in enumerate(self.optimizer.state.values())
        }
        options = [{k: of(v) for k, v in g.items() if k != "params"} for g in self.optimizer.param_groups]
        return [p.array.tobytes() for p in self.params], state, list(self.optimizer.steps.values()), options


def test_every_rule_over_the_whole_vector_is_here():
    known = {name for name, record in optim.zoo.items() if issubclass(record.cls, WholeVector)}
    assert known == {name.split()[0] for name in OPTIONS}


@pytest.mark.parametrize("name", OPTIONS)
def test_a_closure_that_raises_at_any_call_leaves_everything_as_it_was(name):
    for before in (0, 2):
        case, twin, untouched = Case(name), Case(name), Case(name)
        for _ in range(before):
            for each in (case, twin, untouched):
                each.step()
        bits = case.bits()
        calls = twin.step()
        for k in range(1, calls + 1):
            with pytest.raises(KeyError):
                case.step(failing=k)
            assert case.bits() == bits, f"raised at call {k} of {calls}"
        assert calls > 1 or name == "BayesianOptimization"
        case.step()
        untouched.step()
        assert case.bits() == untouched.bits() != bits


def test_an_error_that_is_no_exception_of_the_program_undoes_a_step_too():
    case = Case("LBFGS strong_wolfe")
    case.step()
    bits = case.bits()

    def interrupted():
        loss = case.closure()
        if case.calls == 3:
            raise KeyboardInterrupt
        return loss

    case.calls = 0
    with pytest.raises(KeyboardInterrupt):
        case.optimizer.step(interrupted)
    assert case.calls == 3 and case.bits() == bits


@pytest.mark.parametrize("name", OPTIONS)
def test_frozen_parameters_stay_where_they_are_and_go_on_when_they_are_free(name):
    case = Case(name, frozen=True)
    start, first = case.b.array.copy(), case.bits()[0]

    def watched():
        assert case.b.array.tobytes() == start.tobytes()  # at trials too
        return case.closure()

    for _ in range(12):
        case.optimizer.step(watched)
    assert case.bits()[0][1] == first[1] and case.bits()[0][0] != first[0] and case.bits()[0][2] != first[2]
    case.b.requires_grad_(True)
    for _ in range(12):
        case.step()
    moved = case.b.array.copy()
    assert (moved != start).all()
    case.b.requires_grad_(False)
    for _ in range(6):  # the history knows directions of the frozen ones
        case.step()
    assert case.b.array.tobytes() == moved.tobytes()


@pytest.mark.parametrize("name", ["EvolutionStrategy", "CMAES", "CMAES diagonal"])
def test_frozen_elements_are_no_dimensions_of_a_search(name):
    """Two free elements beside forty frozen ones take as many evaluations as two, not as forty-two."""

    def evaluations(frozen, seed):
        p = nn.Parameter(mg.tensor([1.0, 1.0], dtype="float64"))
        q = nn.Parameter(mg.ones(frozen, dtype="float64"))
        q.requires_grad_(False)
        optimizer = getattr(optim, name.split()[0])([q, p], sigma=0.5, seed=seed, **OPTIONS[name])
        count = 0

        def closure():
            nonlocal count
            count += 1
            return float((p.array**2).sum())

        while float((p.array**2).sum()) > 1e-10:
            assert count < 1000
            optimizer.step(closure)
        return count

    alone, beside = (np.median([evaluations(n, seed) for seed in range(15)]) for n in (0, 40))
    assert 0.7 < beside / alone < 1.4


def test_bayesian_optimisation_models_free_elements_only():
    p = nn.Parameter(mg.tensor([0.9], dtype="float64"))
    q = nn.Parameter(mg.tensor([5.0] * 8, dtype="float64"))  # outside of the box, where it may stay
    q.requires_grad_(False)
    optimizer = optim.BayesianOptimization([q, p])
    for _ in range(12):
        optimizer.step(lambda: float((p.array[0] - 0.3) ** 2))
    assert abs(p.array[0] - 0.3) < 1e-2 and (q.array == 5).all()
    loss, (other, best) = optimizer.best
    assert other.tolist() == [5.0] * 8 and (best.numpy() == p.array).all() and loss < 1e-4


@pytest.mark.parametrize("name", SEARCHES)
def test_with_nothing_to_search_an_error_says_so(name):
    p = mg.tensor([1.0, 2.0])
    optimizer = getattr(optim, name.split()[0])([p], **OPTIONS[name])
    with pytest.raises(RuntimeError, match=rf"{name.split()[0]}: all parameters are frozen.*requires_grad_"):
        optimizer.step(lambda: 1.0)
    assert p.tolist() == [1.0, 2.0] and not optimizer.state


# ---------------------------------------------------------------------------- annealing's first temperature


def test_annealing_by_default_does_not_climb_out_of_sight():
    """60 steps on nets of 65 parameters: with T = 1 and moves of 0.3 the walkers rise to three times the loss
    where they began and more, with the defaults all of them come down."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(32, 6))
    inputs = mg.tensor(x, dtype="float32")
    targets = mg.tensor(np.sin(x.sum(1, keepdims=True)), dtype="float32")

    def after(seed, **options):
        mg.manual_seed(seed)
        model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1))
        optimizer = optim.SimulatedAnnealing(model.parameters(), seed=seed, **options)

        def closure():
            return nn.functional.mse_loss(model(inputs), targets)

        first = float(closure())
        for _ in range(60):
            optimizer.step(closure)
        assert optimizer.best[0] <= float(closure()) * (1 + 1e-5)
        return float(closure()) / first

    for seed in range(4):
        assert after(seed) < 0.9 < 3 < after(seed, temperature=1.0, scale=0.3)


def test_annealing_derives_what_is_not_given_from_loss_and_parameters():
    p = nn.Parameter(mg.tensor([3.0, -4.0], dtype="float64"))
    optimizer = optim.SimulatedAnnealing([p], adapt=False)
    optimizer.step(lambda: float((p.array**2).sum()))
    state = optimizer.state[p]
    assert state["temperature"] == 25.0 / 2 and state["scale"] == pytest.approx(0.3 * np.sqrt(12.5))
    p.array[...] = 1e3
    for _ in range(5):
        optimizer.step(lambda: float((p.array**2).sum()))
    assert state["temperature"] == 25.0 / 2 and state["scale"] == pytest.approx(0.3 * np.sqrt(12.5))
    p.array[...] = 0
    zero = optim.SimulatedAnnealing([p], adapt=False)
    zero.step(lambda: 0.0)
    assert zero.state[p]["temperature"] == 0.5 and zero.state[p]["scale"] == 0.3
    walled = optim.SimulatedAnnealing([p], adapt=False)
    losses = iter([float("inf"), float("inf"), -8.0, -8.0])
    walled.step(lambda: next(losses))
    assert "temperature" not in walled.state[p]
    walled.step(lambda: next(losses))
    walled.step(lambda: next(losses))
    assert walled.state[p]["temperature"] == 4.0
    given = optim.SimulatedAnnealing([p], 2.0, 0.7, adapt=False)
    given.step(lambda: 1.0)
    assert "temperature" not in given.state[p] and given.state[p]["scale"] == 0.7
