"""Models, their features and their dated prices."""

from gearshift.core.catalogue.model import Feature, Model
from gearshift.core.catalogue.price import PriceSchedule

__all__ = ["Feature", "Model", "PriceSchedule"]
