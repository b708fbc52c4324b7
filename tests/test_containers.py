"""nn.Sequential, ModuleList, ModuleDict, ParameterList: Python's lists and dictionaries, with names."""

import pytest

import minigrad as mg
from minigrad import nn


def test_sequential_is_a_list_with_names():
    a, b, c, d = nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 3), nn.Tanh()
    s = nn.Sequential(a, b, c)
    assert len(s) == 3 and list(s) == [a, b, c] and s[0] is a and s[-1] is c
    assert list(s[1:]) == [b, c] and isinstance(s[1:], nn.Sequential)
    assert s.append(d) is s and s[3] is d
    s[1] = d
    assert s[1] is d
    assert s.insert(1, b) is s and list(s) == [a, b, d, c, d]
    assert s.pop(2) is d and list(s._modules) == ["0", "1", "2", "3"]
    del s[-1]
    del s[0:1]
    assert list(s) == [b, c] and list(s._modules) == ["0", "1"]
    assert list(s.extend([a])) == [b, c, a] and list(s + nn.Sequential(d)) == [b, c, a, d]
    s += [d]
    assert len(s) == 4
    with pytest.raises(IndexError, match="index 9 for 4 modules"):
        s[9]
    with pytest.raises(IndexError, match="insert: index 9"):
        s.insert(9, a)


def test_sequential_by_name():
    a, b = nn.Linear(1, 2), nn.ReLU()
    s = nn.Sequential({"first": a, "then": b})
    assert s.first is a and s[1] is b and list(s.state_dict()) == ["first.weight", "first.bias"]
    assert s(mg.ones(3, 1)).shape == (3, 2)
    assert list(s[:1]._modules) == ["first"]
    del s[0]
    assert list(s._modules) == ["then"]


def test_module_list_and_dict():
    a, b, c = nn.Linear(1, 1), nn.ReLU(), nn.Tanh()
    modules = nn.ModuleList([a, b])
    modules.append(c).extend([a])
    assert list(modules) == [a, b, c, a] and list(modules[1:3]) == [b, c] and modules[-1] is a
    assert list(modules + [b]) == [a, b, c, a, b]
    table = nn.ModuleDict({"a": a})
    table["b"] = b
    table.update([("c", c)])
    assert list(table) == list(table.keys()) == ["a", "b", "c"] and "a" in table and len(table) == 3
    assert list(table.values()) == [a, b, c] and next(iter(table.items())) == ("a", a)
    assert table.pop("b") is b and "b" not in table
    del table["c"]
    with pytest.raises(KeyError):
        del table["training"]  # an attribute, but no module of it
    with pytest.raises(KeyError, match="already has an attribute 'keys'"):
        table["keys"] = a
    table.clear()
    assert len(table) == 0


def test_parameter_list():
    values = nn.ParameterList([mg.ones(2), nn.Parameter(mg.zeros(3))])
    assert len(values) == 2 and all(isinstance(p, nn.Parameter) for p in values)
    assert [tuple(p.shape) for p in values.append(mg.ones(4))] == [(2,), (3,), (4,)]
    assert list(values.state_dict()) == ["0", "1", "2"]
    values[0] = mg.ones(5)
    assert values[0].shape == (5,) and len(values[1:]) == 2
    assert "(1): Parameter containing" in repr(values)
