"""An optimizer of two groups, and what a scheduler makes of it, for the tests of schedulers."""

import minigrad as mg
from minigrad.optim import SGD


def parameter():
    return mg.nn.Parameter(mg.zeros(2))


def optimizer(lr=0.05, **options):
    options = dict(momentum=0.5) | options
    return SGD([{"params": [parameter()]}, {"params": [parameter()], "lr": 10 * lr}], lr=lr, **options)


def seen(opt):
    return [(group["lr"], group["momentum"]) for group in opt.param_groups]


def advanced(opt, scheduler, steps):
    """What the groups hold from now on, and after each of so many steps."""
    found = [seen(opt)]
    for _ in range(steps):
        opt.step()
        scheduler.step()
        found.append(seen(opt))
    return found
