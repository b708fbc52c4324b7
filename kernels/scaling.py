"""Loss scaling: gradients divided by the scale, whether they are finite, and the scale of the next step.

What decides is found on the device and stays there; the host reads one number to know whether to step.
"""

from kernels.elementwise import Elementwise
from kernels.rows import Rows

# unscaled = g / scale, bad = 1 for a row with inf or nan. A zero stays zero though 1 / scale overflow.
UNSCALE = Rows(
    "unscale",
    "S g, raw float32 inverse",
    "S unscaled, row float32 bad",
    body="""
    T q = T(g) * T(inverse[0]);
    T wrong = isfinite(q) ? T(0) : T(1);
    bad = max(wrong);
    unscaled = T(g) == T(0) ? T(g) : q;
""",
)

FOUND_INF = Rows("found_inf", "T bad", "row T found", body="found = max(bad);")

# found: scale <- backoff scale, tracker <- 0;  after `interval` good steps in a row: scale <- growth scale,
# unless that overflows. In double; the scale is rounded to float32.
UPDATE_SCALE = Elementwise(
    "update_scale",
    "float32 found",
    "float32 scale, float32 inverse, T tracker",
    scalars="growth backoff interval",
    body="""
    T good = found == float32(0) ? tracker + T(1) : T(0);
    float32 grown = float32(T(scale) * growth);
    float32 next = scale;
    if (found != float32(0)) {
        next = float32(T(scale) * backoff);
    } else if (good == interval) {
        next = isfinite(grown) ? grown : scale;
        good = T(0);
    }
    scale = next;
    inverse = float32(T(1) / T(next));
    tracker = good;
""",
)
