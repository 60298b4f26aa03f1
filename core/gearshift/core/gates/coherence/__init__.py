"""Whether an answer hangs together: one check a file, none of which knows more than the text and what was asked."""

from gearshift.core.gates.coherence.gate import CHECKS, DEFAULT_EFFECTS, CoherenceGate, Effect, effects_of

__all__ = ["CHECKS", "DEFAULT_EFFECTS", "CoherenceGate", "Effect", "effects_of"]
