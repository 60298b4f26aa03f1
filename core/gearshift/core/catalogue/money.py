"""Exact money: USD as Decimal outside, whole pico-USD (1e-12 USD) where sums are made and stored.

Rules: no float; a price has at most six decimals for a million tokens, so that one token costs a whole number of
pico-USD and every cost is exact.
"""

from __future__ import annotations

from decimal import Context, Decimal
from typing import Final

PICO_PER_USD: Final = 10**12
PRICE_DECIMALS: Final = 6

# Wide enough for any product here, whatever the caller's context says.
_WIDE: Final = Context(prec=60)
_PICO: Final = Decimal("1e-12")


def to_pico(usd: Decimal) -> int:
    """Give whole pico-USD, rounded half to even where the amount is finer.

    Raises:
        ValueError: the amount is not finite.

    """
    if not usd.is_finite():
        raise ValueError(f"not an amount of money: {usd}")
    return int(usd.scaleb(12, context=_WIDE).to_integral_value(context=_WIDE))


def from_pico(pico: int) -> Decimal:
    """Give USD with twelve decimals."""
    return Decimal(pico).scaleb(-12, context=_WIDE)


def usd_text(usd: Decimal) -> str:
    """Give an amount in plain digits, without exponent or trailing zeros: "0.000125", "3", "0"."""
    text = format(usd, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def machine_cost(cost_per_hour: Decimal, busy_s: float, parallelism: float) -> Decimal:
    """Give what a call on an own machine cost, USD, rounded to 1e-12.

    Args:
        cost_per_hour: USD for an hour of the machine, from 0.
        busy_s: how long the call kept it busy, seconds, from 0.
        parallelism: calls that it runs at once, above 0.

    Raises:
        ValueError: an argument is out of range.

    """
    if not (cost_per_hour.is_finite() and cost_per_hour >= 0):
        raise ValueError(f"cost_per_hour must be 0 or more: {cost_per_hour}")
    # Written so that NaN and infinity fail as well.
    if not 0 <= busy_s < float("inf"):
        raise ValueError(f"busy_s must be 0 or more: {busy_s}")
    if not 0 < parallelism < float("inf"):
        raise ValueError(f"parallelism must be above 0: {parallelism}")
    usd = _WIDE.multiply(cost_per_hour, Decimal(str(busy_s)))
    usd = _WIDE.divide(usd, _WIDE.multiply(Decimal(3600), Decimal(str(parallelism))))
    return usd.quantize(_PICO, context=_WIDE)
