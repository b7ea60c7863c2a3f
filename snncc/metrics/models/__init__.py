"""Energy models that know no chip: each is one file of counts, one of constants, and a line in this table."""

from snncc.metrics.models.lemaire import LEMAIRE
from snncc.metrics.models.model import EnergyModel
from snncc.metrics.models.paper45 import PAPER45

MODELS: tuple[EnergyModel, ...] = (PAPER45, LEMAIRE)

__all__ = ["MODELS", "EnergyModel"]
