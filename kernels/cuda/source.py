"""The CUDA C++ of a kernel, exactly as CuPy would compile it: for reading, and for tests without a GPU.

print(cuda_source(ADAM, dict(S="float16"), flags=("decoupled_weight_decay",)))
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kernels.call import Kernel
from kernels.cuda.elementwise import elementwise_kernel
from kernels.cuda.rows import rows_source
from kernels.dtypes import compute_type
from kernels.kernel import Variant
from kernels.rows import Rows


def cuda_source(
    kernel: Kernel, dtypes: Mapping[str, str], flags: Iterable[str] = (), guarded: bool = False
) -> str:
    """The whole source for concrete types of the letters; T follows from S where it is not given.

    guarded: of a call with `unless`.
    """
    letters = {"T": compute_type(dtypes.get("S", "float32"))} | dict(dtypes)
    variant = kernel.variant(flags)
    if isinstance(kernel, Rows):
        return rows_source(variant, letters, guarded)
    return _elementwise_source(variant, letters, guarded)


_NDARRAY, _INDEXER = 1, 2  # CuPy's kinds of kernel arguments


def _elementwise_source(variant: Variant, letters: Mapping[str, str], guarded: bool) -> str:
    """CuPy's own generator, told that all arrays are of one shape without gaps and smaller than 2^31."""
    from cupy import ndarray
    from cupy._core import _carray, _kernel, core

    made: Any = elementwise_kernel(variant, letters, guarded)
    types = [tuple(p.dtype for p in params) for params in (made.in_params, made.out_params)]
    _, _, type_map = _kernel._decide_params_type(made.in_params, made.out_params, *types)
    arrays = [_kernel._ArgInfo(_NDARRAY, ndarray, t, 1, True, True) for t in (*types[0], *types[1])]
    index = _kernel._ArgInfo(_INDEXER, _carray.Indexer, None, 1, True, True)
    headers = "".join(f"#include <{name}>\n" for name in core._cupy_header_list)
    return headers + _kernel._get_elementwise_kernel_code(
        (*arrays, index), type_map, made.params, made.operation, made.name, made.preamble
    )
