"""What a captured step does first: it moves on to its own row of scalars and its own random draws.

A graph replays the very launches that were recorded, numbers included. So what changes from step to step lies
on the device: the scalars of all optimizer launches as the rows of a table that the host computes ahead, in
double, and the words [seed, offset] of all draws.
"""

from kernels.elementwise import Elementwise

ROWS = 256  # of the table: so many steps ahead

# row = table[at mod 256], word <- word + stride; `at` counts the steps so far: each element's own count, or,
# where a GradScaler may leave steps out, that of its optimizer: taken[whose], if whose >= 0
TICK = Elementwise(
    "tick",
    "raw T table, uint64 stride, raw int64 taken, int64 whose",
    "int64 count, T row, uint64 word",
    flags="unless",
    body="""
    #if unless
    int64 at = whose < int64(0) ? count : taken[max(whose, int64(0))];
    #else
    int64 at = count;
    #endif
    row = table[at % 256 * n + i];
    word = word + stride;
    count = count + 1;
""",
)

# Called unless a flag is set: steps that were taken, and the norm of the last of them.
ONE_MORE = Elementwise("one_more", "", "int64 count", body="count = count + 1;")
HOLD = Elementwise("hold", "S x", "S y", body="y = x;")
