"""New tensors: dtypes and values are torch's, from data, shapes and rules. (Random ones: test_random.py.)"""

import numpy as np
import pytest
from oracle import oracle

import minigrad as mg

CALLS = {
    "float": lambda m: m.tensor(1.5),
    "int": lambda m: m.tensor(3),
    "bool": lambda m: m.tensor(True),
    "nested": lambda m: m.tensor([[1, 2], [3, 4]]),
    "tuple": lambda m: m.tensor((1.0, 2.0)),
    "range": lambda m: m.tensor(range(3)),
    "mixed numbers": lambda m: m.tensor([1, 2.5, True]),
    "bools and ints": lambda m: m.tensor([True, 2]),
    "empty list": lambda m: m.tensor([]),
    "empty lists": lambda m: m.tensor([[], []]),
    "float64 array": lambda m: m.tensor(np.arange(3.0)),
    "int32 array": lambda m: m.tensor(np.arange(3, dtype=np.int32)),
    "bool array": lambda m: m.tensor(np.array([True, False])),
    "strided array": lambda m: m.tensor(np.arange(6.0).reshape(2, 3).T),
    "numpy number": lambda m: m.tensor(np.float32(2)),
    "list of numpy numbers": lambda m: m.tensor([np.float32(2), np.float32(3)]),
    "list of numpy ints": lambda m: m.tensor([np.int32(2)]),
    "list of int arrays": lambda m: m.tensor([np.int32(1), np.int32(2)]),
    "list of tensors": lambda m: m.tensor([m.tensor(1), m.tensor(2)]),
    "dtype": lambda m: m.tensor([1, 2], dtype=m.float16),
    "dtype of an array": lambda m: m.tensor(np.arange(3.0), dtype=m.int64),
    "float as int": lambda m: m.tensor([1.7, -1.7], dtype=m.int64),
    "float as bool": lambda m: m.tensor([0.0, 0.5], dtype=m.bool),
    "too large for float32": lambda m: m.tensor([1e300], dtype=m.float32),
    "bfloat16": lambda m: m.tensor([1.01], dtype=m.bfloat16).float(),
    "as_tensor": lambda m: m.as_tensor([1.0, 2.0], dtype=m.float64),
    "asarray": lambda m: m.asarray([1, 2]),
    "scalar_tensor": lambda m: m.scalar_tensor(3),
    "zeros": lambda m: m.zeros(2, 3),
    "zeros tuple": lambda m: m.zeros((2, 3), dtype=m.int64),
    "zeros size": lambda m: m.zeros(size=(2,)),
    "zeros 0-d": lambda m: m.zeros(()),
    "zeros of a tensor": lambda m: m.zeros(m.tensor(2)),
    "ones": lambda m: m.ones([2, 1], dtype=m.bool),
    "empty shape": lambda m: m.empty(0, 3),
    "full float": lambda m: m.full((2,), 1.5),
    "full int": lambda m: m.full((2,), 3),
    "full bool": lambda m: m.full((2,), True),
    "full dtype": lambda m: m.full((2,), 3, dtype=m.float64),
    "zeros_like": lambda m: m.zeros_like(m.ones(2, dtype=m.int32)),
    "ones_like": lambda m: m.ones_like(m.zeros(2), dtype=m.float64),
    "full_like": lambda m: m.full_like(m.zeros(2, dtype=m.int64), 2.7),
    "new_zeros": lambda m: m.ones(1, dtype=m.float64).new_zeros(2, 3),
    "new_ones": lambda m: m.ones(1, dtype=m.int8).new_ones((2,)),
    "new_full": lambda m: m.ones(1, dtype=m.float64).new_full((2,), 3),
    "new_tensor": lambda m: m.ones(1, dtype=m.float64).new_tensor([1, 2]),
    "eye": lambda m: m.eye(3),
    "eye wide": lambda m: m.eye(2, 3, dtype=m.int64),
    "arange": lambda m: m.arange(5),
    "arange float": lambda m: m.arange(3.0),
    "arange step": lambda m: m.arange(1, 2, 0.3),
    "arange down": lambda m: m.arange(5, 1, -2),
    "arange 0.1": lambda m: m.arange(0, 1, 0.1, dtype=m.float64),
    "arange dtype": lambda m: m.arange(3, dtype=m.float32),
    "arange float to int": lambda m: m.arange(0.0, 5.0, 2.0, dtype=m.int64),
    "arange tensor": lambda m: m.arange(m.tensor(3)),
    "arange empty": lambda m: m.arange(2, 2),
    "linspace": lambda m: m.linspace(-1, 1, 7, dtype=m.float64),
    "linspace one": lambda m: m.linspace(3, 5, 1),
    "linspace none": lambda m: m.linspace(3, 5, 0),
    "linspace int": lambda m: m.linspace(0, 10, 5, dtype=m.int64),
    "logspace": lambda m: m.logspace(0, 2, 5, dtype=m.float64),
    "logspace base": lambda m: m.logspace(0, 3, 4, base=2),
    "meshgrid": lambda m: m.meshgrid(m.arange(2), m.arange(3), indexing="ij")[1],
    "meshgrid xy": lambda m: m.meshgrid(m.arange(2), m.arange(3), m.arange(4), indexing="xy")[0],
    "meshgrid list": lambda m: m.meshgrid([m.arange(2), m.tensor(5)], indexing="ij")[0],
}


@pytest.mark.oracle
@pytest.mark.parametrize("name", CALLS)
def test_values_and_dtype_equal_torch(name):
    ours, theirs = CALLS[name](mg), CALLS[name](oracle("torch"))
    assert ours.dtype.name == str(theirs.dtype).removeprefix("torch.")
    assert tuple(ours.shape) == tuple(theirs.shape) and ours.is_leaf and not ours.requires_grad
    np.testing.assert_allclose(
        ours.numpy(), theirs.numpy(), rtol=1e-15 if ours.dtype is mg.float64 else 1e-6, atol=1e-16
    )


REFUSED = {
    "ragged": (lambda: mg.tensor([[1], [2, 3]]), ValueError, "tensor: nested sequences of different lengths"),
    "string": (lambda: mg.tensor("a"), TypeError, "tensor: no tensor is made of a str"),
    "None": (lambda: mg.tensor([1, None]), TypeError, "tensor: no tensor is made of a NoneType"),
    "complex array": (lambda: mg.tensor(np.ones(2) * 1j), TypeError, "complex128.* is not supported"),
    "object array": (lambda: mg.tensor(np.array([None])), TypeError, "is not supported; use one of bool"),
    "too large for uint8": (
        lambda: mg.tensor([300], dtype=mg.uint8),
        ValueError,
        "300 do not fit into uint8",
    ),
    "too large for int64": (
        lambda: mg.tensor(2**63),
        ValueError,
        "9223372036854775808 do not fit into int64",
    ),
    "unknown dtype": (
        lambda: mg.zeros(2, dtype="complex64"),
        TypeError,
        "dtype: 'complex64' is not supported",
    ),
    "gradient of integers": (lambda: mg.tensor([1], requires_grad=True), TypeError, "only floating tensors"),
    "negative size": (
        lambda: mg.zeros(2, -1),
        ValueError,
        r"zeros: negative dimension in the size \(2, -1\)",
    ),
    "float size": (lambda: mg.ones(2.0), TypeError, r"ones: the size \(2.0,\) is not made of integers"),
    "size twice": (lambda: mg.zeros(2, size=(3,)), TypeError, "zeros: the size is given twice"),
    "unknown device": (lambda: mg.zeros(2, device="tpu"), ValueError, "device: 'tpu' is not a device"),
    "from_numpy of a list": (lambda: mg.from_numpy([1]), TypeError, "from_numpy: list is no numpy.ndarray"),
    "wrong way": (lambda: mg.arange(5, 1), ValueError, "arange: steps of 1 do not lead from 5 to 1"),
    "no step": (lambda: mg.arange(0, 1, 0), ValueError, "arange: steps of 0 do not lead"),
    "negative steps": (lambda: mg.linspace(0, 1, -1), ValueError, "linspace: -1 steps"),
    "meshgrid indexing": (
        lambda: mg.meshgrid(mg.ones(2), indexing="yx"),
        ValueError,
        "indexing is 'ij' or 'xy'",
    ),
    "meshgrid of matrices": (
        lambda: mg.meshgrid(mg.ones(2, 2)),
        ValueError,
        "meshgrid: give tensors of one dim",
    ),
    "asarray copy": (
        lambda: mg.asarray([1], copy=False),
        ValueError,
        "asarray: a list becomes this tensor by copying",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused_names_the_value_and_cure(what):
    call, error, message = REFUSED[what]
    with pytest.raises(error, match=message):
        call()


# ----------------------------------------------------------------------------------------------------- memory


def test_a_list_of_arrays_keeps_their_dtype():
    x = mg.tensor([np.arange(2.0), np.arange(2.0)])
    assert x.dtype is mg.float64 and x.tolist() == [[0, 1], [0, 1]]


def test_tensor_copies_and_from_numpy_shares():
    a = np.arange(3.0)
    copied, shared, seen = mg.tensor(a), mg.from_numpy(a), mg.as_tensor(a)
    a[0] = 7
    assert (copied[0].item(), shared[0].item(), seen[0].item()) == (0, 7, 7)
    assert mg.asarray(a).array is a and mg.asarray(a, copy=True).array is not a
    x = mg.ones(2, requires_grad=True)
    assert mg.as_tensor(x) is x
    assert mg.tensor(x).node is None and not mg.tensor(x).requires_grad


def test_requires_grad_is_an_argument_of_every_creation_function():
    made = [
        mg.tensor([1.0], requires_grad=True),
        mg.zeros(2, requires_grad=True),
        mg.full((2,), 1.0, requires_grad=True),
        mg.eye(2, requires_grad=True),
        mg.linspace(0, 1, 3, requires_grad=True),
        mg.rand(2, requires_grad=True),
        mg.ones_like(mg.ones(2), requires_grad=True),
        mg.randn_like(mg.ones(2), requires_grad=True),
        mg.ones(1).new_zeros(2, requires_grad=True),
        mg.asarray([1.0], requires_grad=True),
    ]
    assert all(t.requires_grad and t.is_leaf for t in made)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (np.float64(1.5), mg.float64),
        ([np.float64(1.5), 2], mg.float64),
        ([[1.0], [np.float64(2.0)]], mg.float64),
        ([np.float16(1), np.float64(2)], mg.float64),
        ([np.float32(1.5), 2.5], mg.float32),
        ([np.int32(1), 2.5], mg.float32),
        ([1.5, 2], mg.float32),
    ],
)
def test_numpys_numbers_bring_their_dtype_as_in_pytorch(data, expected):
    assert mg.tensor(data).dtype is expected
