"""Samples of the matrix products and of linear algebra."""

from samples import Sample, normal

SAMPLES = [
    Sample("matmul (3,4)(4,2)", lambda m, a, b: a @ b, normal(3, 4), normal(4, 2)),
]
