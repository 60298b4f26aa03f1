"""The embedded model: a small language model on this machine, in a supervised process of its own."""

from gearshift.core.embedded.prompts import Prompting
from gearshift.core.embedded.scoring import LabelScorer, LabelScores
from gearshift.core.embedded.settings import EmbeddedSettings
from gearshift.core.embedded.state import ModelState, Phase, Progress, ProgressCallback, Status
from gearshift.core.embedded.supervisor import AttachedModel, EmbeddedModel
from gearshift.core.embedded.terms import Terms, gemma_terms
from gearshift.core.embedded.weights import default_weights_are_installed, prepare_weights, runtime_is_installed

__all__ = [
    "AttachedModel",
    "EmbeddedModel",
    "EmbeddedSettings",
    "LabelScorer",
    "LabelScores",
    "ModelState",
    "Phase",
    "Progress",
    "ProgressCallback",
    "Prompting",
    "Status",
    "Terms",
    "default_weights_are_installed",
    "gemma_terms",
    "prepare_weights",
    "runtime_is_installed",
]
