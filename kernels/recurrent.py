"""The texts of recurrent cells: what follows the two products of a step, for each hidden unit.

`z` is the part of the input; the part of the hidden state before, h0, stands where the gates (or the state)
go, which are kept for the backward text. Backward, g is the gradient of the new state from its use, `more`
that from the step after; a text makes those of z, of the hidden state's part where it differs, and of the
state before.
"""

from kernels.elementwise import Elementwise

# y = f(z + y), f the hyperbolic tangent, or max(., 0) with `relu`                               [Elman 1990]
RNN_STEP = Elementwise(
    "rnn_step",
    "S z",
    "S y",
    flags="relu",
    body="""
    #if relu
    y = max(T(z) + T(y), T(0));
    #else
    y = tanh(T(z) + T(y));
    #endif
""",
)

# gz = (g + more) f'
RNN_STEP_BACKWARD = Elementwise(
    "rnn_step_backward",
    "S g, S more, S y",
    "S gz",
    flags="relu",
    body="""
    T d = T(g) + T(more);
    #if relu
    gz = T(y) > T(0) ? d : T(0);
    #else
    gz = d * (T(1) - T(y) * T(y));
    #endif
""",
)

# p = sigmoid, q = sigmoid, a = tanh, o = sigmoid of z and what stood there: input, forget, new, output
# c = q c0 + p a,  h = o tanh(c)                           [Hochreiter & Schmidhuber 1997; Gers et al. 2000]
LSTM_STEP = Elementwise(
    "lstm_step",
    "S zp, S zq, S za, S zo, S c0",
    "S p, S q, S a, S o, S c, S h",
    """
    T gp = T(1) / (T(1) + exp(-(T(zp) + T(p))));
    T gq = T(1) / (T(1) + exp(-(T(zq) + T(q))));
    T ga = tanh(T(za) + T(a));
    T go = T(1) / (T(1) + exp(-(T(zo) + T(o))));
    T v = gq * T(c0) + gp * ga;
    p = gp;
    q = gq;
    a = ga;
    o = go;
    c = v;
    h = go * tanh(v);
""",
)

# of h: g + more;  of c: gc. To what the four functions were of, and to c0
LSTM_STEP_BACKWARD = Elementwise(
    "lstm_step_backward",
    "S g, S more, S p, S q, S a, S o, S c, S c0",
    "S gc, S dp, S dq, S da, S dout",
    """
    T d = T(g) + T(more);
    T t = tanh(T(c));
    T e = T(gc) + d * T(o) * (T(1) - t * t);
    dp = e * T(a) * T(p) * (T(1) - T(p));
    dq = e * T(c0) * T(q) * (T(1) - T(q));
    da = e * T(p) * (T(1) - T(a) * T(a));
    dout = d * t * T(o) * (T(1) - T(o));
    gc = e * T(q);
""",
)

# u = what stood in a,  r = sigmoid(zr + r),  k = sigmoid(zk + k),  a = tanh(za + r u)
# h = (1 - k) a + k h0                                                                     [Cho et al. 2014]
GRU_STEP = Elementwise(
    "gru_step",
    "S zr, S zk, S za, S h0",
    "S r, S k, S a, S u, S h",
    """
    T part = a;
    T gr = T(1) / (T(1) + exp(-(T(zr) + T(r))));
    T gk = T(1) / (T(1) + exp(-(T(zk) + T(k))));
    T ga = tanh(T(za) + gr * part);
    u = part;
    r = gr;
    k = gk;
    a = ga;
    h = (T(1) - gk) * ga + gk * T(h0);
""",
)

# to the parts of z, to u = that of za times r, and to h0 (the rest of it comes through the hidden part)
GRU_STEP_BACKWARD = Elementwise(
    "gru_step_backward",
    "S g, S more, S r, S k, S a, S u, S h0",
    "S dr, S dk, S da, S du, S gh",
    """
    T d = T(g) + T(more);
    T e = d * (T(1) - T(k)) * (T(1) - T(a) * T(a));
    da = e;
    du = e * T(r);
    dr = e * T(u) * T(r) * (T(1) - T(r));
    dk = d * (T(h0) - T(a)) * T(k) * (T(1) - T(k));
    gh = d * T(k);
""",
)
