"""A small classifier of task types: what it reads, how it decides, what it has learned."""

from gearshift.core.classifier.model import Guess, TaskClassifier
from gearshift.core.classifier.weights import Weights

__all__ = ["Guess", "TaskClassifier", "Weights"]
