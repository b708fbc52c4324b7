"""Optimizers that need no gradient: for surfaces of a few parameters, for learning rates, for comparison."""

from .annealing import SimulatedAnnealing
from .bayes import BayesianOptimization, GaussianProcess
from .evolution import CMAES, EvolutionStrategy
from .tuning import Tuned, tune

__all__ = [
    "BayesianOptimization",
    "CMAES",
    "EvolutionStrategy",
    "GaussianProcess",
    "SimulatedAnnealing",
    "Tuned",
    "tune",
]
