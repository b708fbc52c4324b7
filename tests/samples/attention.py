"""Samples of attention and embeddings. torch's own kernel for attention has no second gradient: its MATH
backend is asked, and compared."""

import numpy as np

from . import Sample, integers, normal


def sdpa(m, *args, **kwargs):
    attention = m.nn.functional.scaled_dot_product_attention
    if m.__name__ != "torch":
        return attention(*args, **kwargs)
    with m.nn.attention.sdpa_kernel(m.nn.attention.SDPBackend.MATH):
        return attention(*args, **kwargs)


def triples(*lead, rows=3, keys=4, width=2, out=2):
    return normal(*lead, rows, width), normal(*lead, keys, width), normal(*lead, keys, out)


def plain(label, *inputs, **kwargs):
    return Sample(f"attention {label}", lambda m, q, k, v: sdpa(m, q, k, v, **kwargs), *inputs)


def masked(label, mask, *inputs, no_grad=(), float32=1e-4, **kwargs):
    return Sample(
        f"attention masked {label}",
        lambda m, q, k, v, mask: sdpa(m, q, k, v, attn_mask=mask, **kwargs),
        *inputs,
        mask,
        no_grad=no_grad,
        float32=float32,
    )


def some(*shape):
    """A bool mask in which each query may look at its first key."""

    def make(rng):
        mask = rng.random(shape) < 0.5
        mask[..., 0] = True
        return mask

    return make


def packed(label, *inputs, heads=2, **kwargs):
    """packed_attention; for torch the same by hand."""

    def reference(m, qkv, *mask):
        b, t, width = qkv.shape
        q, k, v = (
            x.reshape(b, t, heads, width // (3 * heads)).transpose(1, 2) for x in qkv.split(width // 3, 2)
        )
        given = dict(kwargs, attn_mask=mask[0]) if mask else kwargs
        return sdpa(m, q, k, v, **given).transpose(1, 2).reshape(b, t, width // 3)

    def fn(m, qkv, *mask):
        return m.nn.functional.packed_attention(qkv, heads, *mask, **kwargs)

    return Sample(f"packed_attention {label}", fn, *inputs, reference=reference)


HALF_MASKED = np.where(np.arange(12).reshape(3, 4) % 3 == 0, -np.inf, 0.5)
NOTHING_SEEN = np.array([[True, False, True, True], [False] * 4, [True] * 4])

ATTENTION = [
    plain("(B, h, T, E)", *triples(2, 3)),
    plain("(B, T, E)", *triples(2)),
    plain("(T, E)", *triples()),
    plain("causal", *triples(2, 2, rows=4), is_causal=True),
    plain("causal, fewer keys than queries", *triples(2, 2, rows=5, keys=3), is_causal=True),
    plain("causal, more keys than queries", *triples(2, 2, rows=2, keys=5), is_causal=True),
    plain("wide values", *triples(2, 2, out=5)),
    plain("scale=0.3", *triples(2, 2), scale=0.3),
    plain("one query, one key", *triples(1, 1, rows=1, keys=1, width=1, out=1)),
    plain("no batch", *triples(0, 2)),
    plain("no query", *triples(2, 2, rows=0)),
    plain("a key for all batches", normal(2, 2, 3, 4), normal(1, 2, 5, 4), normal(1, 2, 5, 4)),
    plain("grouped", normal(2, 4, 3, 2), normal(2, 2, 5, 2), normal(2, 2, 5, 3), enable_gqa=True),
    plain("grouped, one head for all", normal(4, 3, 2), normal(1, 5, 2), normal(1, 5, 2), enable_gqa=True),
    plain(
        "grouped and causal",
        *(normal(2, 6, 4, 2), normal(2, 3, 4, 2), normal(2, 3, 4, 2)),
        enable_gqa=True,
        is_causal=True,
    ),
    plain("enable_gqa without groups", *triples(2, 2), enable_gqa=True),
    Sample(
        "attention of transposed heads",
        lambda m, q, k, v: sdpa(
            m, *[x.reshape(2, 3, 2, 4).transpose(1, 2) for x in (q, k, v)], is_causal=True
        ).transpose(1, 2),
        normal(2, 3, 8),
        normal(2, 3, 8),
        normal(2, 3, 8),
    ),
    Sample("attention to itself", lambda m, x: sdpa(m, x, x, x), normal(2, 2, 3, 4)),
]

MASKED = [
    masked("bool (L, S)", some(3, 4), *triples(2, 2)),
    masked("bool (B, 1, 1, S)", some(2, 1, 1, 4), *triples(2, 2)),
    masked("bool (B, h, L, S)", some(2, 2, 3, 4), *triples(2, 2)),
    masked("bool (h, 1, S)", some(2, 1, 4), *triples(3, 2)),
    masked("bool (S)", some(4), *triples(2, 2)),
    masked("bool (L, 1)", np.array([[True], [False], [True]]), *triples(2, 2)),
    masked("a query that sees nothing", NOTHING_SEEN, *triples(2, 2)),
    masked("floats (L, S)", normal(3, 4), *triples(2, 2)),
    masked("floats (B, 1, L, S)", normal(2, 1, 3, 4), *triples(2, 2), scale=2.0),
    masked("floats (1, S)", normal(1, 4), *triples(2)),
    masked("floats of minus infinity", HALF_MASKED, *triples(2, 2), no_grad=(3,)),
    masked("grouped bool", some(2, 4, 3, 5), normal(2, 4, 3, 2), normal(2, 2, 5, 2), normal(2, 2, 5, 2),
           enable_gqa=True),
    masked("grouped floats (B, 1, L, S)", normal(2, 1, 3, 5), normal(2, 4, 3, 2), normal(2, 2, 5, 2),
           normal(2, 2, 5, 2), enable_gqa=True),
]  # fmt: skip

PACKED = [
    packed("plain", normal(2, 3, 12)),
    packed("causal", normal(2, 4, 12), is_causal=True),
    packed("one head", normal(1, 3, 6), heads=1, is_causal=True),
    packed("scale", normal(2, 3, 12), scale=0.7),
    packed("bool mask", normal(2, 3, 12), some(2, 1, 3, 3)),
    packed("floating mask", normal(2, 3, 12), normal(3, 3)),
    packed("nobody", normal(0, 3, 12)),
]

NONE = np.zeros((0, 2), np.int64)

EMBEDDING = [
    Sample(
        f"embedding {label}",
        lambda m, i, w, padding=padding: m.nn.functional.embedding(i, w, padding),
        index,
        normal(5, 3),
        second=index is not NONE,  # torch reshapes 0 elements to (..., -1) there
        smooth=padding is None,  # the gradient leaves the padding row out
    )
    for label, index, padding in (
        ("matrix of numbers", integers(5, 2, 4), None),
        ("one number", np.array(3), None),
        ("none", NONE, None),
        ("padding_idx", integers(3, 4, 4), 1),
        ("padding_idx from the end", np.array([4, 0, 4, 2]), -1),
    )
]

SAMPLES = ATTENTION + MASKED + PACKED + EMBEDDING
