"""The public face: PyTorch's names, argument forms and type promotion, outside the recorded path.

Each function normalises what the user wrote (dims, keyword forms, scalars, mixed dtypes) and calls operations
of `minigrad.ops`, which see one dtype and non-negative tuples. `@public` puts a function under
`minigrad.name`, `@method` makes it a method of Tensor too; `EXPORTS` is what `import minigrad` shows.
"""

from . import (
    arithmetic,
    arranging,
    broadcasting,
    choice,
    comparison,
    conversion,
    creation,
    distribution,
    einsum,
    elementwise,
    extremes,
    gathering,
    indexing,
    joining,
    masks,
    norms,
    ordering,
    printing,
    products,
    reductions,
    sampling,
    scans,
    shapes,
    types,
)
