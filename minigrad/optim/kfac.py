"""K-FAC: natural gradient with the Fisher of each layer as a Kronecker product (kronecker.py).

    s = W a + b,   g = dl/ds              a layer; a has a 1 below it, and W the bias beside it
    F_W = E[a a^T (x) g g^T]  ~  A (x) B          A = E[a a^T] (in + 1, in + 1),   B = E[g g^T] (out, out)
    update = (B + sqrt(damping)/pi I)^-1  dW  (A + pi sqrt(damping) I)^-1

The labels behind g are drawn from the model itself: then it is the Fisher. With the true labels it is the
empirical Fisher, another matrix. So the optimizer needs a forward and a backward pass of its own, now and
then; what it calls for it is a function without arguments that returns the loss and calls no backward():

    optimizer = optim.KFAC(model.parameters())
    optimizer.sampled_loss = lambda: F.cross_entropy(logits := model(x), optim.sample_labels(logits))
    optimizer.step(closure)

Layers are found while that function runs: F.linear, F.conv1d, F.conv2d and F.embedding leave a tap (taps.py),
whichever modules call them. Where a layer is used at several places (a convolution; a word) a and g are those
of one place [Grosse & Martens 2016, KFC; "expand" of Eschenhagen et al. 2023]:

    convolution   a: what a window sees, (C kh kw + 1);  A is a mean over places, B a sum
    embedding     a: a unit vector, so that A is diagonal: how often each row was looked up

Everything else (norms, grouped convolutions, a table that is a head as well) has the diagonal of its Fisher,
N (mean gradient)^2 with sampled labels, as Sophia-G estimates it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import inf
from typing import Any

import numpy as np

from kernels.rules import KFAC as TEXT
from kernels.rules import KFAC_DIAGONAL, MATRIX_GRADIENT, SOPHIA_HESSIAN

from ..arena import Arena, cut
from ..autograd import grad
from ..backend import Array, full, to_device, xp_of
from ..curvature import known, loss_hessian_root
from ..grad_mode import enable_grad, no_grad
from ..labels import sample_labels
from ..statistics import hold
from ..taps import Tap, tapped
from ..tensor import Tensor
from . import state as states
from .excursion import pieces
from .flat import dot
from .groups import Range
from .kronecker import INPUTS, OUTPUTS, ROWS, Layer, Shape, solve
from .matrix import MatrixRule, check_count, compute_kind
from .optimizer import Run
from .record import Record

FISHERS = ("sampled", "exact", "empirical")
Pass = tuple[list[Array | None], dict[Tensor, Tensor]]  # gradients by the taps' outputs, and by parameters


class KFAC(MatrixRule):
    """p <- (1 - lr weight_decay) p - lr b,  b <- momentum b + nu B'^-1 g A'^-1,  A', B' the damped factors

    lr >= 0 (a number or a 0-d Tensor), momentum in [0, 1), damping > 0, weight_decay >= 0: a penalty in the
    loss, as in the paper (its gradient is preconditioned too), or with decoupled_weight_decay outside of it.

    fisher            "sampled": `sampled_loss` returns the loss with labels from sample_labels. "exact": the
                      expectation over all labels, by a backward pass a class; `outputs` returns the (..., C)
                      outputs of the model, and `loss` says what they are: "cross_entropy" or "mse".
                      "empirical": the closure's own labels, without further passes; not the Fisher
    factor_decay      A <- e A + (1 - e) A_new,  e = min(1 - 1/k, factor_decay) at the k-th estimate
    factor_interval   steps between two estimates, which take a forward and a backward pass
    inverse_interval  steps between two inversions; both are renewed at each of the first three steps, too
    kl_clip           nu = min(1, sqrt(kl_clip / (lr^2 <update, g>))): the step changes the model's
                      distribution by about so much, at most; None: nu = 1                  [Ba et al. 2017]
    max_size          a factor of more rows is kept as its diagonal: a whole one costs their square and cube
    labels            how many labels the loss is a mean of; None: as many as the last layer has rows

    The options that are not lr, momentum, weight_decay are the first group's. Nothing is read back between
    inversions. Batch norm's statistics stand still in passes of our own. Weights that autocast casts are no
    layers: let sampled_loss run without it. ValueError, before anything changes, where the function that is
    needed is missing.
    [Martens & Grosse 2015, arXiv:1503.05671, Algorithm 2: the block-diagonal form with the damping of 6.3,
    and a plain momentum in place of the quadratic model's]
    """

    kernel = TEXT
    ranges = {
        "momentum": Range("momentum value", high=1),
        "damping": Range("damping value", above=True),
        "factor_decay": Range("factor_decay value", high=1),
    }
    record = Record(
        year=2015,
        paper="Martens & Grosse, Optimizing neural networks with Kronecker-factored approximate curvature,"
        " ICML 2015, arXiv:1503.05671, Algorithm 2; for convolutions Grosse & Martens 2016, arXiv:1602.01407",
        latex=r"\theta \leftarrow \theta - \eta\, (B + \tfrac{\sqrt\gamma}{\pi} I)^{-1}\, \nabla_W L\,"
        r" (A + \pi\sqrt\gamma I)^{-1}, \quad A = E[a a^\top], \quad B = E[g g^\top]",
        oracles=(),
        kind="matrix",
        needs=("sampled labels",),
        launches="2, and array code a layer",
        proof="tests/test_kfac.py",
        presets={"paper": dict(factor_interval=1, inverse_interval=20, momentum=0.0, kl_clip=None)},
        texts=(TEXT, KFAC_DIAGONAL, MATRIX_GRADIENT, SOPHIA_HESSIAN),
    )

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-2,
        momentum: float = 0.9,
        damping: float = 1e-2,
        weight_decay: float = 0.0,
        *,
        fisher: str = "sampled",
        loss: str = "cross_entropy",
        factor_decay: float = 0.95,
        factor_interval: int = 5,
        inverse_interval: int = 20,
        kl_clip: float | None = 1e-3,
        decoupled_weight_decay: bool = False,
        max_size: int = 8192,
        labels: int | None = None,
        sampled_loss: Callable[[], Tensor] | None = None,
        outputs: Callable[[], Any] | None = None,
    ):
        options: dict[str, Any] = dict(lr=lr, momentum=momentum, damping=damping, weight_decay=weight_decay)
        options |= dict(fisher=fisher, loss=loss, factor_decay=factor_decay, kl_clip=kl_clip)
        options |= dict(factor_interval=factor_interval, inverse_interval=inverse_interval)
        options |= dict(decoupled_weight_decay=decoupled_weight_decay, max_size=max_size, labels=labels)
        super().__init__(params, options)
        self.sampled_loss, self.outputs = sampled_loss, outputs

    def prepare(self, defaults: dict[str, Any]) -> None:
        super().prepare(defaults)
        self.layers: dict[Tensor, Layer] = {}  # by weight
        self.rest: set[Tensor] = set()  # what has the diagonal
        self.watched: tuple[list[Tap], dict[Tap, Array]] = ([], {})  # of an empirical Fisher: taps, gradients

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        rule = type(self).__name__
        known(rule, group["loss"])
        if group["fisher"] not in FISHERS:
            names = ", ".join(map(repr, FISHERS))
            raise ValueError(f"{rule}: Invalid fisher: {group['fisher']!r}; it is one of {names}")
        for name in ("factor_interval", "inverse_interval", "max_size", "labels"):
            if group[name] is not None or name != "labels":
                check_count(rule, f"{name} value", group[name])
        if group["kl_clip"] is not None:
            Range("kl_clip value", above=True).check(rule, group["kl_clip"])

    def __getstate__(self) -> dict[str, Any]:
        kept = {k: v for k, v in super().__getstate__().items() if k not in ("layers", "rest", "watched")}
        return kept | {"sampled_loss": None, "outputs": None}  # functions of the program, not of the state

    # -------------------------------------------------------------------------------------------------- state

    def vectors(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("momentum_buffer",) if group["momentum"] else ()

    def matrices_of(self, p: Tensor, group: dict[str, Any]) -> Mapping[str, Shape]:
        layer = self.layers.get(p)
        if layer is None:
            return {}
        return layer.shapes() | ({} if layer.bias is None else {"bias": ()})

    def slots_of(self, p: Tensor, group: dict[str, Any]) -> tuple[str, ...]:
        return (*super().slots_of(p, group), *(("fisher",) if p in self.rest else ()))

    def place(self, p: Tensor, name: str) -> Array:
        if name == "bias" and p in self.layers:  # its place among the parameters, which state_dict counts by
            (k,) = [k for k, q in enumerate(self.parameters()) if q is self.layers[p].bias]
            return full((), k, np.dtype(np.int64), p.device)
        return super().place(p, name)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        before = self.layers, self.rest
        try:
            if isinstance(state_dict, Mapping) and {"state", "param_groups"} <= set(state_dict):
                self.layers, self.rest = self.layers_in(state_dict)
            super().load_state_dict(state_dict)
        except Exception:
            self.layers, self.rest = before
            raise

    def layers_in(self, state_dict: Mapping[str, Any]) -> tuple[dict[Tensor, Layer], set[Tensor]]:
        """The layers of a saved state, and what has the diagonal there."""
        what = f"load_state_dict of {type(self).__name__}"
        groups = states.matched(what, self, list(state_dict["param_groups"]))
        ours = {index: (p, label) for _, _, members in groups for p, label, index in members}
        layers, rest = {}, set()
        for index, (p, label) in ours.items():
            stored = state_dict["state"].get(index, state_dict["state"].get(str(index), {}))
            if stored.get("fisher") is not None:
                rest.add(p)
            if stored.get(OUTPUTS[0]) is None:
                continue
            bias, lookup = stored.get("bias"), ROWS[0] in stored
            if bias is not None:
                bias, _ = ours[int(states.array_of(bias))]
            inner, outer = (
                np.shape(states.array_of(stored.get(n, 0)))
                for n in ((ROWS if lookup else INPUTS)[0], OUTPUTS[0])
            )
            layers[p] = layer = Layer(p, bias, lookup, inner, outer)
            if (wanted := layer.sizes()) != (*inner[:1], *outer[:1]):
                raise ValueError(
                    f"{what}: {label}: factors of shapes {list(inner)} and {list(outer)}, here they have "
                    f"{wanted[0]} and {wanted[1]} rows"
                )
        return layers, rest

    # -------------------------------------------------------------------------------------------- the factors

    def taken(self) -> int:
        """How many steps the optimizer has taken: as many as the parameter that has taken most."""
        return max([self.steps.get(p, 0) for p in self.parameters()], default=0)

    def due(self, name: str) -> bool:
        """Whether the coming step renews the factors, or the inverses: at an interval, and at the start."""
        t = self.taken()
        return t < 3 or t % self.param_groups[0][name] == 0

    def estimates(self) -> int:
        """How many estimates there are with the coming step's."""
        every, t = self.param_groups[0]["factor_interval"], self.taken()
        return len({*range(min(t + 1, 3)), *range(0, t + 1, every)})

    def evaluate(self, closure: Callable[[], Any] | None) -> Any:
        """The closure's loss; for the empirical Fisher, what goes through the layers meanwhile."""
        if self.param_groups[0]["fisher"] != "empirical" or not self.due("factor_interval"):
            return super().evaluate(closure)
        if closure is None:
            raise ValueError("KFAC: fisher='empirical' sees the closure's own labels: call step(closure)")
        gradients: dict[Tap, Array] = {}

        def watch(tap: Tap) -> None:
            tap.output.register_hook(lambda g: gradients.__setitem__(tap, g.array.copy()))

        with tapped(watch) as taps:
            loss = super().evaluate(closure)
        self.watched = taps, gradients
        return loss

    def passes(self) -> tuple[list[Tap], Iterator[Pass], bool]:
        """The taps of a pass through the model, the gradients of one or several backward passes, and whether
        these are of the mean loss, whose squares count as many times as there are labels."""
        group, params = self.param_groups[0], [p for p in self.parameters() if p.requires_grad]
        if group["fisher"] == "empirical":
            (taps, gradients), self.watched = self.watched, ([], {})
            own = {p: p.grad for p in params if p.grad is not None}
            return taps, iter([([gradients.get(tap) for tap in taps], own)]), True
        name = "sampled_loss" if group["fisher"] == "sampled" else "outputs"
        function = getattr(self, name)
        if function is None:
            raise ValueError(
                f"KFAC: fisher={group['fisher']!r} needs a pass of its own: set optimizer.{name} to a "
                "function without arguments, as optimizer.sampled_loss = lambda: F.cross_entropy(logits := "
                "model(x), optim.sample_labels(logits)), or optimizer.outputs = lambda: model(x)"
            )
        with hold(), enable_grad(), tapped() as taps:
            result = function()
        result = result[0] if isinstance(result, tuple) else result
        sampled = group["fisher"] == "sampled"
        if not isinstance(result, Tensor) or not result.requires_grad or (sampled and result.numel() != 1):
            given = f"a {type(result).__name__}"
            if isinstance(result, Tensor):
                given = f"a Tensor of shape {list(result.shape)}, requires_grad={result.requires_grad}"
            wanted = "the loss, one number" if sampled else "the outputs (..., C)"
            raise TypeError(
                f"KFAC: {name} gave {given}; it returns {wanted}, with its graph, without .detach()"
            )
        return taps, self.gradients(taps, params, result, group["loss"], sampled), sampled

    def gradients(
        self, taps: list[Tap], params: list[Tensor], result: Tensor, loss: str, sampled: bool
    ) -> Iterator[Pass]:
        """The backward pass of a sampled loss; or one for each class, of outputs. There each row has a random
        sign, so that in the sum over rows its products with other rows vanish on average."""
        targets = [*(tap.output for tap in taps), *params]
        rows = None if sampled else result.detach().reshape(-1, result.shape[-1])
        count = 1 if rows is None else rows.shape[1]
        signs = None if rows is None else _signs(rows)
        for k in range(count):
            seed = None
            if rows is not None and signs is not None:
                with no_grad():
                    seed = loss_hessian_root(rows, k, loss) * signs
                    seed = seed.reshape(*result.shape)
            found = grad(result, targets, seed, retain_graph=k < count - 1, allow_unused=True)
            own = {p: g for p, g in zip(params, found[len(taps) :], strict=True) if g is not None}
            yield [None if g is None else g.array for g in found[: len(taps)]], own

    @no_grad()
    def observe(self) -> None:
        """Take an estimate of the Fisher into the factors, and into the diagonal of what is no layer."""
        taps, passes, mean = self.passes()
        before, uses = self.layers, self.find(taps)
        group = self.param_groups[0]
        kinds = {w: compute_kind(w.arena) for w in self.layers}
        inner = {w: layer.input_moment(uses[w], kinds[w]) for w, layer in self.layers.items()}
        outer: dict[Tensor, Array] = {}
        keep = min(1 - 1 / self.estimates(), float(group["factor_decay"]))
        labels = 1
        for k, (outputs, own) in enumerate(passes):
            there = [(tap, g) for tap, g in zip(taps, outputs, strict=True) if g is not None]
            if mean:
                last = [tap.rows(g).shape[0] for tap, g in there if tap.weight is there[-1][0].weight]
                labels = group["labels"] or max(sum(last), 1)
            for tap, g in there:
                if layer := self.layers.get(tap.weight):
                    found = layer.output_moment(tap, g, kinds[tap.weight])
                    outer[tap.weight] = outer[tap.weight] + found if tap.weight in outer else found
            self.diagonal({p: g for p, g in own.items() if p in self.rest}, keep if k == 0 else 1.0,
                          (1 - keep) * labels)  # fmt: skip
        for w, layer in self.layers.items():
            names, fresh = layer.names, w not in before
            for name, new in ((names[0], inner[w]), (names[2], outer.get(w))):
                if new is not None:
                    factor = self.matrix(w, name, layer.shapes()[name])
                    scale = labels if name == names[2] else 1
                    e = 0.0 if fresh else keep
                    factor[...] = factor * factor.dtype.type(e) + new * factor.dtype.type((1 - e) * scale)
            if fresh:
                self.invert(layer)

    def find(self, taps: list[Tap]) -> dict[Tensor, list[Tap]]:
        """The uses of each of our weights; makes `layers` of them, and what is left is the `rest`."""
        mine = {*self.parameters()}
        uses: dict[Tensor, list[Tap]] = {}
        for tap in taps:
            if tap.weight in mine:
                uses.setdefault(tap.weight, []).append(tap)
        self.layers = {}
        biases: set[Tensor | None] = set()
        for w, found in uses.items():
            if len({tap.lookup for tap in found}) == 1:
                bias = found[0].bias if found[0].bias in mine - biases else None
                biases.add(bias)
                self.layers[w] = Layer.of(found[0], bias, self.param_groups[0]["max_size"])
        self.rest = {p for p in mine if p not in self.layers and p not in biases}
        return uses

    def diagonal(self, found: Mapping[Tensor, Tensor], keep: float, take: float) -> None:
        """fisher <- keep fisher + take g^2, for parameters of no layer."""
        buffers: dict[Arena, Array] = {}
        for p, g in found.items():
            a = p.arena
            if a not in buffers:
                buffers[a] = full((a.size,), 0, a.dtype, a.device)
            cut(buffers[a], p.offset, p.array.shape)[...] = g.array
        for arena, start, stop in pieces(found):
            g, h = buffers[arena][start:stop], arena.state(self, "fisher")[start:stop]
            SOPHIA_HESSIAN(g, g, h, scalars=dict(beta2=keep, one_minus_beta2=take))

    def invert(self, layer: Layer) -> None:
        """Renew the inverses of a layer's damped factors."""
        a, a_inverse, b, b_inverse = (self.matrix(layer.weight, n, s) for n, s in layer.shapes().items())
        a_inverse[...], b_inverse[...] = layer.invert(a, b, float(self.param_groups[0]["damping"]))

    # ------------------------------------------------------------------------------------------------- a step

    def update(self) -> None:
        """An estimate where one is due; then the direction of all parameters, its length, and the step."""
        work = [(group, self.runs(group["params"])) for group in self.param_groups]
        if not any(runs for _, runs in work):
            return
        if self.due("factor_interval"):
            self.observe()
        if self.due("inverse_interval"):
            for layer in self.layers.values():
                self.invert(layer)
        for group, runs in work:
            decay = 0.0 if group["decoupled_weight_decay"] else float(group["weight_decay"])
            for run in runs:
                piece = run.piece
                gradient = (piece(run.arena.gradient), piece(run.arena.array), self.slot(run, "update"))
                flags = ("decay",) if decay else ()
                MATRIX_GRADIENT(*gradient, scalars=dict(weight_decay=decay), flags=flags)
        self.precondition({p for _, runs in work for run in runs for p in run.params})
        nu = self.clip([run for _, runs in work for run in runs])
        for group, runs in work:
            for run in runs:
                self.move(run, group, nu)
        for arena in {run.arena for _, runs in work for run in runs}:
            arena.version[0] += 1

    def precondition(self, active: set[Tensor]) -> None:
        """update <- F^-1 update, layer by layer; the diagonal for the rest."""
        for w, layer in self.layers.items():
            if w in active or layer.bias in active:
                update = w.arena.state(self, "update")
                a, b = layer.names[1], layer.names[3]
                inner, outer = (self.matrix(w, n, layer.shapes()[n]) for n in (a, b))
                layer.put(update, solve(inner, outer, layer.gradient(update, active)))
        damping = dict(damping=float(self.param_groups[0]["damping"]))
        for arena, start, stop in pieces(p for p in self.rest if p in active):
            fisher, update = (arena.state(self, n)[start:stop] for n in ("fisher", "update"))
            KFAC_DIAGONAL(fisher, update, scalars=damping)

    def clip(self, runs: list[Run]) -> Array:
        """nu (1,) = min(1, sqrt(kl_clip / (lr^2 |<update, g>|))), in double; 1 without a kl_clip."""
        limit, where = self.param_groups[0]["kl_clip"], runs[0].arena.device
        nu = full((1,), 1, np.dtype(np.float64), where)
        lr = float(self.param_groups[0]["lr"])
        if limit is None or not lr:
            return nu
        total: Any = 0.0
        for run in runs:
            update, gradient = self.slot(run, "update"), run.piece(run.arena.gradient)
            total = total + to_device(dot(update, gradient.astype(update.dtype, copy=False)), where)
        xp = xp_of(nu)
        most = float(limit) / lr**2
        return xp.sqrt(most / xp.maximum(xp.abs(total), most)).reshape(1) if most < inf else nu

    def move(self, run: Run, group: dict[str, Any], nu: Array) -> None:
        """One launch: momentum, decay, and the parameters of a run."""
        lr, momentum = float(group["lr"]), float(group["momentum"])
        keep = 1 - lr * float(group["weight_decay"]) if group["decoupled_weight_decay"] else 1.0
        here = to_device(nu, run.arena.device).astype(compute_kind(run.arena))
        arrays = [self.slot(run, "update"), here, run.piece(run.arena.array)]
        flags = ("momentum",) if momentum else ()
        arrays += [self.slot(run, "momentum_buffer")] if momentum else []
        self.kernel(*arrays, scalars=dict(lr=lr, keep=keep, momentum=momentum), flags=flags)
        self.steps.update(dict.fromkeys(run.params, run.t))


def _signs(rows: Tensor) -> Tensor:
    """1 or -1 for every row, as likely, (N, 1): labels drawn from two equal scores."""
    coins = sample_labels(Tensor(xp_of(rows.array).zeros((rows.shape[0], 2), rows.array.dtype)))
    return (coins * 2 - 1).to(rows.dtype).reshape(-1, 1)
