"""What a captured step does first: it moves on to its own row of scalars and its own random draws.

A graph replays the very launches that were recorded, numbers included. So what changes from step to step lies
on the device: the scalars of all optimizer launches as the rows of a table that the host computes ahead, in
double, and the words [seed, offset] of all draws.
"""

from kernels.elementwise import Elementwise

ROWS = 256  # of the table: so many steps ahead

# row = table[count mod 256], word <- word + stride, count <- count + 1; each element has a count of its own
#     unless: where found is not 0 the step will be left out, and is not counted
TICK = Elementwise(
    "tick",
    "raw T table, uint64 stride, raw float32 found",
    "int64 count, T row, uint64 word",
    flags="unless",
    body="""
    int64 before = count;
    row = table[before % 256 * n + i];
    word = word + stride;
    #if unless
    count = found[0] == float32(0) ? before + 1 : before;
    #else
    count = before + 1;
    #endif
""",
)
