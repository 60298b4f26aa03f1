"""Which language a text is in: told by function words within a script, by code points between scripts."""

from gearshift.core.gates.language.prompt import Prompt
from gearshift.core.gates.language.tally import Tally

__all__ = ["Prompt", "Tally"]
