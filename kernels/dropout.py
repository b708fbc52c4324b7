"""Dropout: random numbers that are computed, not kept.

Philox4x32-10 [Salmon et al. 2011] turns a counter of four words and a key of two into four random words: ten
rounds of two multiplications, the same on every machine. Group i of four elements of draw number `offset`
uses the counter (i, offset) and the key `seed`, so the backward pass finds the same mask again by asking for
the same draw, and nothing is stored.

An array of 4 q elements is passed as its quarters: element k is word k / q of the group k % q. So a kernel
computes each random word once, and reads and writes memory in order.
"""

from kernels.elementwise import Elementwise

M0, M1 = "0xD2511F53u", "0xCD9E8D57u"  # multipliers
W0, W1 = "0x9E3779B9u", "0xBB67AE85u"  # what the key grows by: the golden ratio, and sqrt(3) - 1

_ROUND = f"""
    left = uint64(c0) * uint64({M0});
    right = uint64(c2) * uint64({M1});
    c0 = uint32(right >> 32) ^ c1 ^ k0;
    c1 = uint32(right);
    c2 = uint32(left >> 32) ^ c3 ^ k1;
    c3 = uint32(left);"""
_GROW = f"""
    k0 = k0 + {W0};
    k1 = k1 + {W1};"""

# the four words c0 c1 c2 c3 of group i; draw[0] is the seed, draw[1] the offset
PHILOX = f"""
    uint64 left = uint64(i);
    uint64 right = draw[1];
    uint32 c0 = uint32(left);
    uint32 c1 = uint32(left >> 32);
    uint32 c2 = uint32(right);
    uint32 c3 = uint32(right >> 32);
    uint32 k0 = uint32(draw[0]);
    uint32 k1 = uint32(draw[0] >> 32);{_GROW.join([_ROUND] * 10)}
"""

# y = scale x with probability 1 - drop, else 0: the upper 24 bits of a word, in [0, 1), decide
DROPOUT = Elementwise(
    "dropout",
    "S x0, S x1, S x2, S x3, raw uint64 draw",
    "S y0, S y1, S y2, S y3",
    PHILOX
    + "\n".join(
        f"    y{k} = T(c{k} >> 8) * T(5.9604644775390625e-8) < drop ? T(0) : T(x{k}) * scale;"
        for k in range(4)
    ),
    scalars="drop scale",
)
