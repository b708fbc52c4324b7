"""Sophia: steps divided by the diagonal of the Hessian, which is estimated now and then, and clipped.

    m <- beta1 m + (1 - beta1) g
    h <- beta2 h + (1 - beta2) h_t                   every update_interval steps
    p <- (1 - lr weight_decay) p - lr clip(m / max(rho h, eps))

Sophia-H: h_t = u (H u), elementwise, u of random signs: E[u_i (H u)_i] = H_ii  [Hutchinson 1990]. H u is the
gradient of <gradient, u>, so the optimizer goes through the graph of the loss again. The closure is as every
optimizer's, and returns the loss as a Tensor; its backward() keeps the graph when it is needed:

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        return loss

    optimizer.step(closure)

Sophia-G: h_t = B (gradient of the mean loss with labels that the model itself draws)^2, whose mean is the
diagonal of the Gauss-Newton matrix; with the true labels it would be something else. That loss is a function:

    optimizer.sampled_loss = lambda: F.cross_entropy(logits := model(x), optim.sample_labels(logits))
    optimizer.step(closure)                          calls it by itself, every update_interval steps

or one's own backward() and update_hessian(), as in the authors' program.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kernels.cuda import graph
from kernels.draws import RADEMACHER
from kernels.rules import SOPHIA, SOPHIA_HESSIAN

from ..arena import Arena, cut
from ..autograd import grad
from ..backend import Array, empty, full
from ..grad_mode import enable_grad, graphs_retained
from ..labels import draw
from ..ops.layers import quarters
from ..tensor import Tensor
from .excursion import pieces
from .groups import Range, averages
from .optimizer import Optimizer, Run
from .record import Record
from .whole import release

Estimate = dict[Arena, tuple[Array, Array]]  # two buffers whose product estimates the diagonal; zero: no part


class Sophia(Optimizer):
    """What both share: the step, when the Hessian is estimated, and its average."""

    steady = True
    kernel = SOPHIA
    ranges = {
        "rho": Range("rho value", above=True),
        "clip_threshold": Range("clip_threshold value", above=True),
        "bs": Range("bs value", above=True),
    }

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        every = group["update_interval"]
        if not isinstance(every, int) or every < 1:
            what = f"{type(self).__name__}: Invalid update_interval value: {every}"
            raise ValueError(f"{what}; it must be a positive whole number, of steps")

    def taken(self) -> int:
        """How many steps the optimizer has taken: as many as the parameter that has taken most."""
        return max([self.steps.get(p, 0) for p in self.parameters()], default=0)

    def slots(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("exp_avg", "hessian")

    def launch(self, run: Run, group: dict[str, Any], flags: tuple[str, ...], scalars: Any) -> None:
        arrays = (run.piece(run.arena.gradient), self.slot(run, "hessian"), run.piece(run.arena.array))
        self.kernel(*arrays, self.slot(run, "exp_avg"), scalars=scalars, flags=flags)

    def average(self, group: dict[str, Any], arena: Arena, start: int, stop: int, a: Array, b: Array) -> None:
        """h <- beta2 h + (1 - beta2) a b, on a piece of an arena."""
        beta2 = float(group["betas"][1])
        h = arena.state(self, "hessian")[start:stop]
        SOPHIA_HESSIAN(a[start:stop], b[start:stop], h, scalars=dict(beta2=beta2, one_minus_beta2=1 - beta2))

    def gradients(self, loss: Any, create_graph: bool, source: str) -> list[tuple[Tensor, Tensor]]:
        """(parameter, gradient) of those that the loss depends on; `.grad` is left alone."""
        if not isinstance(loss, Tensor) or not loss.requires_grad or loss.array.size != 1:
            what = "a Tensor without a graph" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
            what = (
                "a Tensor of several elements" if isinstance(loss, Tensor) and loss.array.size != 1 else what
            )
            raise TypeError(
                f"{type(self).__name__}: {source} gave {what}; the estimate of the Hessian needs the loss, "
                "a Tensor of one element with its graph: return it as it is, without .item() or .detach()"
            )
        params = [p for p in self.parameters() if p.requires_grad]
        with enable_grad():
            found = grad(loss, params, create_graph=create_graph, allow_unused=True)
        return [(p, g) for p, g in zip(params, found, strict=True) if g is not None]

    def buffers(self, found: list[tuple[Tensor, Tensor]]) -> dict[Arena, Array]:
        """Tensors of parameters in buffers as long as the parameters' arenas, zero elsewhere."""
        made: dict[Arena, Array] = {}
        for p, g in found:
            a = p.arena
            if a not in made:
                made[a] = full((a.size,), 0, a.dtype, a.device)
            cut(made[a], p.offset, p.array.shape)[...] = g.array
        return made


class SophiaH(Sophia):
    """p <- (1 - lr weight_decay) p - lr clip(m / max(rho h, eps)),  h the average of u (H u), u random signs.

    step(closure): the closure computes the loss, calls backward() and returns the loss, a Tensor; at steps
    1, 1 + update_interval, ... two more backward passes give H u. Without a closure call update_hessian(loss)
    before those steps: it goes through the graph, which needs backward(retain_graph=True). ValueError at such
    a step without either. Signs are drawn from the library's generator (mg.manual_seed), on the device.

    lr >= 0 (a number or a 0-d Tensor), betas in [0, 1), rho > 0 (the paper's gamma), eps > 0, clip_threshold
    > 0, weight_decay >= 0 decoupled and scaled by lr. By default h is renewed before the step and m is used
    as it is, as in the paper. The preset "optax" has bias_correction, m / (1 - beta1^t), and hessian_after:
    the step still uses the old h, at first zero, so it is a step of the sign. A parameter without a gradient
    is left alone, its h too. [Liu et al. 2023, Algorithms 1 and 3]
    """

    record = Record(
        year=2023,
        paper="Liu et al., Sophia: a scalable stochastic second-order optimizer for language model"
        " pre-training, arXiv:2305.14342, Algorithms 1 and 3",
        latex=r"\theta \leftarrow (1-\eta\lambda)\,\theta - \eta\, \operatorname{clip}(m / \max(\rho h,"
        r" \epsilon), 1), \quad h \leftarrow \beta_2 h + (1-\beta_2)\, u \odot (H u)",
        oracles=("optax",),
        needs=("closure", "Hessian-vector product"),
        launches="1, and 2 more where the Hessian is estimated",
        proof="tests/test_sophia.py",
        presets={
            "paper": {},
            "optax": dict(
                betas=(0.965, 0.99), eps=1e-8, weight_decay=1e-4, bias_correction=True, hessian_after=True
            ),
        },
        texts=(SOPHIA, SOPHIA_HESSIAN, RADEMACHER),
    )

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-4,
        betas: tuple[float, float] = (0.96, 0.99),
        rho: float = 0.01,
        eps: float = 1e-12,
        weight_decay: float = 0.2,
        update_interval: int = 10,
        clip_threshold: float = 1.0,
        *,
        bias_correction: bool = False,
        hessian_after: bool = False,
    ):
        options = dict(lr=lr, betas=betas, rho=rho, eps=eps, weight_decay=weight_decay)
        options |= dict(update_interval=update_interval, clip_threshold=clip_threshold)
        super().__init__(params, options | dict(bias_correction=bias_correction, hessian_after=hessian_after))

    def prepare(self, defaults: dict[str, Any]) -> None:
        super().prepare(defaults)
        self.estimate: Estimate | None = None  # u and H u, from the closure to the step

    def flags(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ()

    def scalars(self, group: dict[str, Any], t: int) -> dict[str, float]:
        beta1 = float(group["betas"][0])
        return dict(
            lr=float(group["lr"]),
            **averages(beta1),
            weight_decay=float(group["weight_decay"]),
            bias1=1 - beta1**t if group["bias_correction"] else 1.0,
            scale=float(group["rho"]),
            eps=float(group["eps"]),
            clip_at=float(group["clip_threshold"]),
        )

    def due(self) -> bool:
        """Whether the coming step wants a new estimate."""
        return self.taken() % self.param_groups[0]["update_interval"] == 0

    def evaluate(self, closure: Callable[[], Any] | None) -> Any:
        """The closure's loss; where an estimate is due its graph is kept, and gone through again."""
        if closure is None or self.estimate is not None or not self.due():
            return super().evaluate(closure)
        with graphs_retained():
            loss = super().evaluate(closure)
        self._look_at(loss, "the closure", retain_graph=False)
        return loss

    def update_hessian(self, loss: Tensor, retain_graph: bool = False) -> None:
        """Estimate the diagonal from the graph of this loss; the next step() takes it into h.

        For loops without a closure. Before loss.backward(), with retain_graph=True; or after
        loss.backward(retain_graph=True).
        """
        self._look_at(loss, "update_hessian", retain_graph)

    def _look_at(self, loss: Any, source: str, retain_graph: bool) -> None:
        pairs = self.gradients(loss, True, source)
        self.estimate = {}
        signs = {a: self.directions(a) for a in dict.fromkeys(p.arena for p, _ in pairs)}
        curved = [(p, g) for p, g in pairs if g.requires_grad]  # else linear in every parameter
        if curved:
            along = [Tensor(cut(signs[p.arena], p.offset, p.array.shape)) for p, _ in curved]
            params, firsts = [p for p, _ in pairs], [g for _, g in curved]
            products = grad(firsts, params, along, retain_graph=retain_graph, allow_unused=True)
            pairs = [(p, hv) for p, hv in zip(params, products, strict=True) if hv is not None]
            self.estimate = {a: (signs[a], b) for a, b in self.buffers(pairs).items()}
        for a, u in signs.items():
            self.estimate.setdefault(a, (u, full((a.size,), 0, a.dtype, a.device)))
        if not retain_graph:
            release(loss)

    def directions(self, arena: Arena) -> Array:
        """Random signs for all of an arena, from one draw of the counter stream."""
        u = empty((arena.size,), arena.dtype, arena.device)
        RADEMACHER(draw(arena.device), *quarters(u))
        return u

    def plain(self) -> bool:
        return self.estimate is None and not self.due()

    def update(self) -> None:
        """One launch a group; two more where there is an estimate."""
        estimate, self.estimate = self.estimate, None
        if estimate is None and self.due():
            every = self.param_groups[0]["update_interval"]
            raise ValueError(
                f"SophiaH: step {self.taken() + 1} needs the Hessian, as one in {every} does; call "
                "step(closure) with a closure that returns the loss, or update_hessian(loss) before step()"
            )
        places = [
            (group, *place, estimate[place[0]])
            for group in self.param_groups
            for place in pieces(p for p in group["params"] if p.grad is not None)
            if estimate is not None and place[0] in estimate
        ]
        for after in (False, True):
            for group, arena, start, stop, (a, b) in places:
                if group["hessian_after"] == after:
                    self.average(group, arena, start, stop, a, b)
            if not after:
                super().update()


class SophiaG(Sophia):
    """p <- (1 - lr weight_decay) p - lr sign(m) min(|m| / (rho bs h + 1e-15), 1),  h the average of G^2,

    G the gradient of the mean loss with labels sampled from the model; bs G^2 estimates the diagonal of the
    Gauss-Newton matrix, bs the number of labels in the mean: examples, or tokens. Arguments and defaults are
    the authors' program's: lr >= 0 (a number or a 0-d Tensor), betas in [0, 1), rho > 0, weight_decay >= 0
    decoupled and scaled by lr; maximize climbs; m has no bias correction. bs > 0 is there an argument of
    step(), which is taken here too.

    sampled_loss, a function without arguments, returns the loss with labels from sample_labels, and does not
    call backward(). It is called after the steps update_interval, 2 update_interval, ..., at the new
    parameters, and `.grad` is left alone. Without it call update_hessian() after a backward() of such a loss,
    as the authors' program does. Until then h is zero and the step that of the sign.
    [Liu et al. 2023, Algorithm 2, and github.com/Liuhong99/Sophia, whose h is renewed after the step]
    """

    record = Record(
        year=2023,
        paper="Liu et al., Sophia: a scalable stochastic second-order optimizer for language model"
        " pre-training, arXiv:2305.14342, Algorithms 2 and 3",
        latex=r"\theta \leftarrow (1-\eta\lambda)\,\theta - \eta \operatorname{sign}(m) \min(|m| /"
        r" (\rho B h + \epsilon), 1), \quad h \leftarrow \beta_2 h + (1-\beta_2)\, \hat g^2, \quad"
        r" \hat y \sim p_\theta",
        oracles=(),
        needs=("sampled labels",),
        launches="1, and 1 more where the Gauss-Newton matrix is estimated",
        proof="tests/test_sophia.py",
        presets={"paper": dict(betas=(0.96, 0.99), rho=0.05, weight_decay=0.2), "official": {}},
        texts=(SOPHIA, SOPHIA_HESSIAN),
    )

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-4,
        betas: tuple[float, float] = (0.965, 0.99),
        rho: float = 0.04,
        weight_decay: float = 1e-1,
        *,
        maximize: bool = False,
        capturable: bool = False,
        bs: float = 5120,
        update_interval: int = 10,
        sampled_loss: Callable[[], Tensor] | None = None,
    ):
        options = dict(lr=lr, betas=betas, rho=rho, weight_decay=weight_decay, maximize=maximize, bs=bs)
        super().__init__(params, options | dict(update_interval=update_interval))
        self.sampled_loss = sampled_loss

    def prepare(self, defaults: dict[str, Any]) -> None:
        super().prepare(defaults)
        self.bs: float | None = None  # of this step, where it was given one

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"sampled_loss": None}  # a function of the program, not of the state

    def flags(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("gauss_newton", "maximize") if group["maximize"] else ("gauss_newton",)

    def scalars(self, group: dict[str, Any], t: int) -> dict[str, float]:
        beta1 = float(group["betas"][0])
        return dict(
            lr=float(group["lr"]),
            **averages(beta1),
            weight_decay=float(group["weight_decay"]),
            bias1=1.0,
            scale=float(group["rho"]) * float(group["bs"] if self.bs is None else self.bs),
            eps=1e-15,
            clip_at=1.0,
        )

    def step(self, closure: Callable[[], Any] | None = None, bs: float | None = None) -> Any:
        """One update; bs, if given, in place of the group's. Returns the loss, if closure() computes it."""
        if bs is not None:
            graph.refuse("SophiaG.step is given bs")
            self.ranges["bs"].check(type(self).__name__, bs)
        self.bs = bs
        try:
            return super().step(closure)
        finally:
            self.bs = None

    def plain(self) -> bool:
        return self.sampled_loss is None or (self.taken() + 1) % self.param_groups[0]["update_interval"] != 0

    def update(self) -> None:
        """One launch a group; one more where sampled_loss gives an estimate."""
        before = self.taken()
        super().update()
        done = self.taken()
        if (
            self.sampled_loss is not None
            and done > before
            and not done % self.param_groups[0]["update_interval"]
        ):
            with enable_grad():
                loss = self.sampled_loss()
            found = self.gradients(loss, False, "sampled_loss")
            buffers = self.buffers(found)
            self._renew({p for p, _ in found}, buffers)

    def update_hessian(self) -> None:
        """h <- beta2 h + (1 - beta2) g^2, g the gradients there are: of a loss with sampled labels."""
        for group in self.param_groups:
            for run in self.runs(group["params"]):  # gradients set by hand come into the arena
                a = run.arena
                self.average(group, a, run.start, run.stop, a.gradient, a.gradient)

    def _renew(self, seen: set[Tensor], buffers: dict[Arena, Array]) -> None:
        for group in self.param_groups:
            for arena, start, stop in pieces(p for p in group["params"] if p in seen):
                self.average(group, arena, start, stop, buffers[arena], buffers[arena])
