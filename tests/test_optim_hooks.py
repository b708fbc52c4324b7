"""Hooks of an optimizer, around steps, saving and loading, in PyTorch's names and order; wrappers too."""

import copy
import pickle

import pytest

import minigrad as mg
from minigrad import optim
from minigrad.nn import Parameter
from minigrad.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook


def plain():
    return optim.SGD([Parameter(mg.ones(3))], lr=0.1)


def wrapped():
    return optim.Lookahead(plain(), k=2)


@pytest.fixture(params=[plain, wrapped], ids=["rule", "wrapper"])
def optimizer(request):
    found = request.param()
    found.param_groups[0]["params"][0].grad = mg.ones(3)
    return found


def note(seen, what):
    return lambda *_: seen.append(what)


def test_the_hooks_of_all_optimizers_are_the_outermost(optimizer):
    seen = []
    handles = [
        optimizer.register_step_pre_hook(note(seen, "own pre")),
        optimizer.register_step_post_hook(note(seen, "own post")),
        register_optimizer_step_pre_hook(lambda o, *_: seen.append("pre of all") if o is optimizer else None),
        register_optimizer_step_post_hook(
            lambda o, *_: seen.append("post of all") if o is optimizer else None
        ),
    ]
    optimizer.step()
    for handle in handles:
        handle.remove()
    optimizer.step()
    assert seen == ["pre of all", "own pre", "own post", "post of all"]


def test_a_hook_of_all_optimizers_is_called_for_each():
    seen, first, second = [], plain(), plain()
    with register_optimizer_step_pre_hook(lambda o, *_: seen.append(o)):
        first.step()
        second.step()
    assert seen == [first, second]


def test_a_step_pre_hook_that_returns_something_else_is_refused(optimizer):
    p = optimizer.param_groups[0]["params"][0]
    optimizer.register_step_pre_hook(lambda *_: 1)
    with pytest.raises(RuntimeError, match="must return None or a tuple"):
        optimizer.step()
    assert p.tolist() == [1.0] * 3


def test_hooks_of_saving(optimizer):
    seen = []
    first = optimizer.register_state_dict_pre_hook(note(seen, 1))
    second = optimizer.register_state_dict_pre_hook(note(seen, 0), prepend=True)
    changed = optimizer.register_state_dict_post_hook(lambda o, saved: saved.update(note="in place"))
    other = optimizer.register_state_dict_post_hook(lambda o, saved: {**saved, "new": 1})
    saved = optimizer.state_dict()
    assert seen == [0, 1] and saved["note"] == "in place" and saved["new"] == 1
    for handle in (first, second, changed, other):
        handle.remove()
    assert "note" not in optimizer.state_dict() and seen == [0, 1]
    optimizer.load_state_dict(saved)  # what a hook added does not disturb


def test_hooks_of_loading(optimizer):
    saved, seen = optimizer.state_dict(), []

    def rate(value, seen_as):
        def hook(o, given):
            seen.append(seen_as)
            given = copy.deepcopy(given)
            for part in (given, given.get("optimizer", given)):
                part["param_groups"][0]["lr"] = value
            return given

        return hook

    optimizer.register_load_state_dict_pre_hook(rate(0.2, "second"))
    optimizer.register_load_state_dict_pre_hook(rate(0.3, "first"), prepend=True)
    optimizer.register_load_state_dict_post_hook(lambda o: seen.append(o.param_groups[0]["lr"]))
    optimizer.load_state_dict(saved)
    assert seen == ["first", "second", 0.2]
    assert saved["param_groups"][0]["lr"] == 0.1  # what was given is as it was


def test_a_loading_hook_may_write_to_the_outermost_dictionary(optimizer):
    saved = optimizer.state_dict()
    optimizer.register_load_state_dict_pre_hook(lambda o, given: given.pop("param_groups") and None)
    with pytest.raises(TypeError, match="param_groups"):
        optimizer.load_state_dict(saved)
    assert "param_groups" in saved


def test_a_load_that_fails_calls_no_post_hook(optimizer):
    seen = []
    optimizer.register_load_state_dict_post_hook(note(seen, "loaded"))
    with pytest.raises(TypeError):
        optimizer.load_state_dict({})
    assert seen == []


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_a_copy_calls_no_hooks_and_has_none(optimizer, copied):
    seen = []
    optimizer.register_state_dict_pre_hook(note(seen, "saving"))
    optimizer.register_state_dict_post_hook(lambda o, saved: saved.clear())
    optimizer.register_step_pre_hook(note(seen, "step"))
    optimizer.register_load_state_dict_post_hook(note(seen, "loaded"))
    other = copied(optimizer)
    other.step()
    other.state_dict()
    assert seen == []
    optimizer.state_dict()
    assert seen == ["saving"]
