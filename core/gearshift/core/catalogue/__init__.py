"""Models, their features and their dated prices."""

from gearshift.core.catalogue.load import Catalogue
from gearshift.core.catalogue.model import Feature, Model
from gearshift.core.catalogue.money import from_pico, machine_cost, to_pico, usd_text
from gearshift.core.catalogue.price import PricePeriod, PriceSchedule, PriceWindow, Rates

__all__ = [
    "Catalogue",
    "Feature",
    "Model",
    "PricePeriod",
    "PriceSchedule",
    "PriceWindow",
    "Rates",
    "from_pico",
    "machine_cost",
    "to_pico",
    "usd_text",
]
