"""What the fake offers, as recorded from CuPy 14.2: one signature a line, sorted by what a call costs.

The table is what makes the fake refuse a keyword that CuPy refuses, also on a machine without CuPy; where
CuPy is installed a test compares every line with it. A function that is missing here is missing from the
fake: add its line when minigrad needs it. Out of reach on purpose: `scatter_add` and the other float atomics,
random generators, and `cupyx` - nothing in minigrad may depend on them.

    UFUNCS     one launch; keywords out, dtype, casting (CuPy has no `where=`, no `order=`)
    VIEWS      no launch while the result can be a view, one copy where it cannot
    COMPUTE    one launch
    BLAS       one launch and CuPy's hidden copies; refused while a stream is capturing (cuBLAS)
    READS      one launch, and the host waits to learn the size of the result
    CREATION   one launch, except the empty ones
    HOST       answers from shapes and dtypes alone
"""

from __future__ import annotations

import inspect

UFUNCS = """
    abs absolute acos acosh add arccos arccosh arcsin arcsinh arctan arctan2 arctanh asin asinh atan
    atan2 atanh bitwise_and bitwise_count bitwise_invert bitwise_left_shift bitwise_not bitwise_or
    bitwise_right_shift bitwise_xor cbrt ceil conj conjugate copysign cos cosh deg2rad degrees divide
    divmod equal exp exp2 expm1 fabs float_power floor floor_divide fmax fmin fmod frexp gcd greater
    greater_equal heaviside hypot invert isfinite isinf isnan lcm ldexp left_shift less less_equal log
    log10 log1p log2 logaddexp logaddexp2 logical_and logical_not logical_or logical_xor maximum minimum
    mod modf multiply negative nextafter not_equal positive pow power rad2deg radians reciprocal
    remainder right_shift rint sign signbit sin sinh sqrt square subtract tan tanh true_divide trunc
""".split()

VIEWS = """
reshape(a, newshape, order='C', *, copy=None)
ravel(a, order='C')
transpose(a, axes=None)
permute_dims(a, axes=None)
matrix_transpose(x, /)
swapaxes(a, axis1, axis2)
moveaxis(a, source, destination)
expand_dims(a, axis)
squeeze(a, axis=None)
broadcast_to(array, shape)
broadcast_arrays(*args)
atleast_1d(*arys)
atleast_2d(*arys)
split(ary, indices_or_sections, axis=0)
array_split(ary, indices_or_sections, axis=0)
diagonal(a, offset=0, axis1=0, axis2=1)
flip(a, axis=None)
ascontiguousarray(a, dtype=None)
"""

COMPUTE = """
sum(a, axis=None, dtype=None, out=None, keepdims=False)
prod(a, axis=None, dtype=None, out=None, keepdims=False)
mean(a, axis=None, dtype=None, out=None, keepdims=False)
var(a, axis=None, dtype=None, out=None, ddof=0, keepdims=False)
std(a, axis=None, dtype=None, out=None, ddof=0, keepdims=False)
max(a, axis=None, out=None, keepdims=False)
min(a, axis=None, out=None, keepdims=False)
amax(a, axis=None, out=None, keepdims=False)
amin(a, axis=None, out=None, keepdims=False)
argmax(a, axis=None, dtype=None, out=None, keepdims=False)
argmin(a, axis=None, dtype=None, out=None, keepdims=False)
any(a, axis=None, out=None, keepdims=False)
all(a, axis=None, out=None, keepdims=False)
count_nonzero(a, axis=None)
cumsum(a, axis=None, dtype=None, out=None)
cumprod(a, axis=None, dtype=None, out=None)
trace(a, offset=0, axis1=0, axis2=1, dtype=None, out=None)
take(a, indices, axis=None, out=None)
take_along_axis(a, indices, axis)
put_along_axis(arr, indices, values, axis)
putmask(a, mask, values)
copyto(dst, src, casting='same_kind', where=None)
tril(m, k=0)
triu(m, k=0)
diag(v, k=0)
concatenate(tup, axis=0, out=None, *, dtype=None, casting='same_kind')
concat(tup, axis=0, out=None, *, dtype=None, casting='same_kind')
stack(tup, axis=0, out=None, *, dtype=None, casting='same_kind')
vstack(tup, *, dtype=None, casting='same_kind')
hstack(tup, *, dtype=None, casting='same_kind')
column_stack(tup)
tile(A, reps)
repeat(a, repeats, axis=None)
roll(a, shift, axis=None)
pad(array, pad_width, mode='constant', **kwargs)
outer(a, b, out=None)
sort(a, axis=-1, kind=None)
argsort(a, axis=-1, kind=None)
searchsorted(a, v, side='left', sorter=None)
lexsort(keys)
isin(element, test_elements, assume_unique=False, invert=False)
isclose(a, b, rtol=1e-05, atol=1e-08, equal_nan=False)
allclose(a, b, rtol=1e-05, atol=1e-08, equal_nan=False)
array_equal(a1, a2, equal_nan=False)
round(a, decimals=0, out=None)
around(a, decimals=0, out=None)
clip(a, a_min, a_max, out=None)
copy(a, order='K')
"""

BLAS = """
matmul(*args, axes=None, axis=None, keepdims=False, casting='same_kind', dtype=None, signature=None,
    order='K', out=None)
dot(a, b, out=None)
tensordot(a, b, axes=2)
einsum(*operands, **kwargs)
inner(a, b)
vdot(a, b)
"""

LINALG = """
cholesky(a)
eigh(a, UPLO='L')
eigvalsh(a, UPLO='L')
inv(a)
solve(a, b)
qr(a, mode='reduced')
svd(a, full_matrices=True, compute_uv=True)
norm(x, ord=None, axis=None, keepdims=False)
slogdet(a)
det(a)
"""

READS = """
nonzero(a)
argwhere(a)
flatnonzero(a)
unique(ar, return_index=False, return_inverse=False, return_counts=False, axis=None, *, equal_nan=True)
bincount(x, weights=None, minlength=None)
compress(condition, a, axis=None, out=None)
"""

CREATION = """
empty(shape, dtype=float, order='C')
empty_like(prototype, dtype=None, order='K', subok=None, shape=None)
zeros(shape, dtype=float, order='C')
zeros_like(a, dtype=None, order='K', subok=None, shape=None)
ones(shape, dtype=float, order='C')
ones_like(a, dtype=None, order='K', subok=None, shape=None)
full(shape, fill_value, dtype=None, order='C')
full_like(a, fill_value, dtype=None, order='K', subok=None, shape=None)
arange(start, stop=None, step=1, dtype=None)
linspace(start, stop, num=50, endpoint=True, retstep=False, dtype=None, axis=0)
eye(N, M=None, k=0, dtype=float, order='C')
identity(n, dtype=float)
tri(N, M=None, k=0, dtype=float)
"""

HOST = """
ndim(a)
shape(a)
size(a, axis=None)
result_type(*arrays_and_dtypes)
can_cast(from_, to, casting='safe')
shares_memory(a, b, max_work=None)
may_share_memory(a, b, max_work=None)
isscalar(element)
iscomplexobj(x)
broadcast_shapes(*args)
"""

# written out in functions.py because they are neither NumPy's function nor a plain launch
SPECIAL = """
array(obj, dtype=None, copy=True, order='K', subok=False, ndmin=0, *, blocking=False)
asarray(a, dtype=None, order=None, *, copy=None, blocking=False)
asanyarray(a, dtype=None, order=None, *, copy=None, blocking=False)
asnumpy(a, stream=None, order='C', out=None, *, blocking=True)
where(condition, x=None, y=None)
get_array_module(*args)
get_default_memory_pool()
"""

STRIDE_TRICKS = """
as_strided(x, shape=None, strides=None)
sliding_window_view(x, window_shape, axis=None, *, subok=False, writeable=False)
"""

# as the first line of each method's docstring in CuPy has them
METHODS = """
sum(self, axis=None, dtype=None, out=None, keepdims=False)
mean(self, axis=None, dtype=None, out=None, keepdims=False)
var(self, axis=None, dtype=None, out=None, ddof=0, keepdims=False)
std(self, axis=None, dtype=None, out=None, ddof=0, keepdims=False)
max(self, axis=None, out=None, keepdims=False)
min(self, axis=None, out=None, keepdims=False)
argmax(self, axis=None, out=None, dtype=None, keepdims=False)
argmin(self, axis=None, out=None, dtype=None, keepdims=False)
any(self, axis=None, out=None, keepdims=False)
all(self, axis=None, out=None, keepdims=False)
cumsum(self, axis=None, dtype=None, out=None)
trace(self, offset=0, axis1=0, axis2=1, dtype=None, out=None)
take(self, indices, axis=None, out=None)
repeat(self, repeats, axis=None)
round(self, decimals=0, out=None)
argsort(self, axis=-1, kind=None)
nonzero(self)
ravel(self, order='C')
squeeze(self, axis=None)
swapaxes(self, axis1, axis2)
diagonal(self, offset=0, axis1=0, axis2=1)
"""

# NumPy's own objects, which CuPy re-exports under the same names
SHARED = """
    bool_ int8 int16 int32 int64 uint8 uint16 uint32 uint64 intp uintp float16 float32 float64 complex64
    complex128 integer signedinteger floating inexact number generic dtype finfo iinfo newaxis inf nan
    pi e issubdtype promote_types s_ index_exp
""".split()


def signatures(table: str) -> dict[str, inspect.Signature]:
    """The lines of a table as {name: signature}."""
    out = {}
    for line in table.strip().replace("\n    ", " ").splitlines():
        name, _, rest = line.partition("(")
        out[name] = inspect.signature(
            eval(f"lambda {rest.rstrip(')')}: None")
        )  # our own text, defaults included
    return out
