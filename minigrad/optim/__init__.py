"""Optimizers, with PyTorch's names, arguments and defaults where PyTorch has the rule.

`zoo` is the registry: a Record of each rule by name, in historical order;
`python -m minigrad.optim` prints it.
"""

from ..labels import sample_labels
from . import lr_scheduler, swa_utils
from .adadelta import Adadelta
from .adafactor import Adafactor
from .adagrad import Adagrad
from .adam import Adam, AdamW, AMSGrad
from .adamax import Adamax
from .adan import Adan
from .ademamix import AdEMAMix
from .asgd import ASGD
from .conjugate_gradient import NonlinearCG, conjugate_gradient
from .coordinate import CoordinateDescent
from .derivative_free import CMAES, BayesianOptimization, EvolutionStrategy, SimulatedAnnealing, tune
from .flow import GradientFlow, NesterovFlow
from .groups import param_groups
from .hypergradient import SGDHD, AdamHD
from .kfac import KFAC
from .lamb import LAMB
from .lars import LARS
from .lasso import ElasticNet, Lasso, coordinate_descent, lasso_path
from .lbfgs import LBFGS
from .lion import Lion
from .lookahead import Lookahead
from .mirror import ExponentiatedGradient, MirrorDescent
from .muon import Muon
from .nadam import NAdam
from .natural import NaturalGradient
from .nesterov import NAG
from .newton import Newton
from .newton_cg import NewtonCG
from .noise import GradientNoise, PerturbedGD
from .optimizer import Optimizer
from .prodigy import Prodigy
from .radam import RAdam
from .record import registry
from .rmsprop import RMSprop
from .rprop import Rprop
from .sam import SAM
from .schedule_free import AdamWScheduleFree, SGDScheduleFree
from .sgd import SGD, SGDW
from .shampoo import Shampoo
from .soap import SOAP
from .sophia import SophiaG, SophiaH

__all__ = [
    "AMSGrad",
    "ASGD",
    "AdEMAMix",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamHD",
    "AdamW",
    "AdamWScheduleFree",
    "Adamax",
    "Adan",
    "BayesianOptimization",
    "CMAES",
    "CoordinateDescent",
    "ElasticNet",
    "EvolutionStrategy",
    "ExponentiatedGradient",
    "GradientFlow",
    "GradientNoise",
    "KFAC",
    "LAMB",
    "LARS",
    "LBFGS",
    "Lasso",
    "Lion",
    "Lookahead",
    "MirrorDescent",
    "Muon",
    "NAG",
    "NAdam",
    "NaturalGradient",
    "NesterovFlow",
    "Newton",
    "NewtonCG",
    "NonlinearCG",
    "Optimizer",
    "PerturbedGD",
    "Prodigy",
    "RAdam",
    "RMSprop",
    "Rprop",
    "SAM",
    "SGD",
    "SGDHD",
    "SGDScheduleFree",
    "SGDW",
    "SOAP",
    "Shampoo",
    "SimulatedAnnealing",
    "SophiaG",
    "SophiaH",
    "conjugate_gradient",
    "coordinate_descent",
    "lasso_path",
    "lr_scheduler",
    "param_groups",
    "sample_labels",
    "swa_utils",
    "tune",
    "zoo",
]

zoo = registry(globals())
