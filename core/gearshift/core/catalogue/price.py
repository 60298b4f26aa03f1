"""What tokens cost: dated periods with times of day and tiers.

Rules: decimal USD for a million tokens; an unknown price is None, never zero; exact, without floats; pure, the time is
passed in. Reasoning is billed as output. A tier prices the whole request, as providers do, not only what is above it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from itertools import pairwise

from gearshift.core.answer import Usage
from gearshift.core.catalogue.money import PRICE_DECIMALS, from_pico


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """USD for a million tokens; None falls back as said.

    Args:
        input_usd: input that is neither written to nor read from the provider's cache.
        output_usd: output, reasoning included.
        cache_write_5m_usd: input written to the cache; None costs as input.
        cache_write_1h_usd: input written for an hour; None costs as `cache_write_5m_usd`.
        cache_read_usd: input read from the cache; None costs as input.
        above_input_tokens: these rates hold for requests with more input tokens than this.

    Raises:
        ValueError: a rate is negative, not finite, or finer than six decimals.

    """

    input_usd: Decimal
    output_usd: Decimal
    cache_write_5m_usd: Decimal | None = None
    cache_write_1h_usd: Decimal | None = None
    cache_read_usd: Decimal | None = None
    above_input_tokens: int = 0
    pico: tuple[int, int, int, int, int] = field(init=False, repr=False, compare=False)
    """Pico-USD a token: input, output, cache write, cache write for an hour, cache read."""

    def __post_init__(self) -> None:
        if self.above_input_tokens < 0:
            raise ValueError("above_input_tokens must be 0 or more")
        plain = _pico_per_token(self.input_usd)
        write = plain if self.cache_write_5m_usd is None else _pico_per_token(self.cache_write_5m_usd)
        write_1h = write if self.cache_write_1h_usd is None else _pico_per_token(self.cache_write_1h_usd)
        read = plain if self.cache_read_usd is None else _pico_per_token(self.cache_read_usd)
        object.__setattr__(self, "pico", (plain, _pico_per_token(self.output_usd), write, write_1h, read))


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceWindow:
    """Hours of some days of the week in which other rates hold.

    Args:
        weekdays: 0 is Monday.
        start_minute / end_minute: minutes after local midnight, 0 to 1440; the end is not in it.
        utc_offset_minutes: of local time, without daylight saving; 480 is Beijing.
        tiers: as in `PricePeriod`.
        except_dates: local dates that are no such day, as public holidays.

    """

    weekdays: frozenset[int]
    start_minute: int
    end_minute: int
    utc_offset_minutes: int
    tiers: tuple[Rates, ...]
    except_dates: frozenset[date] = frozenset()

    def __post_init__(self) -> None:
        if not 0 <= self.start_minute < self.end_minute <= 1440:
            raise ValueError("a window must start before it ends, within one local day")
        if not self.weekdays <= frozenset(range(7)) or not self.weekdays:
            raise ValueError("weekdays are numbers from 0, Monday, to 6")
        if abs(self.utc_offset_minutes) > 14 * 60:
            raise ValueError("utc_offset_minutes is out of range")
        _check_tiers(self.tiers)

    def holds(self, at: datetime) -> bool:
        """Say whether `at`, a time with a zone, is in it."""
        local = at.astimezone(timezone(timedelta(minutes=self.utc_offset_minutes)))
        return (
            local.weekday() in self.weekdays
            and self.start_minute <= local.hour * 60 + local.minute < self.end_minute
            and local.date() not in self.except_dates
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PricePeriod:
    """Rates between two points in time.

    Args:
        tiers: by rising `above_input_tokens`, the first from 0.
        windows: the first that holds wins over `tiers`.
        valid_from: None is always; the moment itself is in it.
        valid_until: None is for ever; the moment itself is not in it.

    """

    tiers: tuple[Rates, ...]
    windows: tuple[PriceWindow, ...] = ()
    valid_from: datetime | None = None
    valid_until: datetime | None = None

    def __post_init__(self) -> None:
        _check_tiers(self.tiers)
        for moment in (self.valid_from, self.valid_until):
            if moment is not None and moment.tzinfo is None:
                raise ValueError("valid_from and valid_until need a time zone")
        if self.valid_from is not None and self.valid_until is not None and self.valid_from >= self.valid_until:
            raise ValueError("valid_from must be before valid_until")

    def holds(self, at: datetime) -> bool:
        """Say whether `at` is in it."""
        return (self.valid_from is None or at >= self.valid_from) and (
            self.valid_until is None or at < self.valid_until
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceSchedule:
    """The prices of one model over time. The first period that holds is taken.

    Args:
        periods: at least one.
        source: where the numbers come from, with the date of reading.

    """

    periods: tuple[PricePeriod, ...]
    source: str = ""
    _only: Rates | None = field(init=False, repr=False, compare=False)
    """The rates when nothing depends on time or size."""

    def __post_init__(self) -> None:
        if not self.periods:
            raise ValueError("a schedule needs a period; an unknown price is None")
        first = self.periods[0]
        plain = not first.windows and first.valid_from is None and first.valid_until is None and len(first.tiers) == 1
        object.__setattr__(self, "_only", first.tiers[0] if plain else None)

    def rates_at(self, at: datetime, input_tokens: int = 0) -> Rates | None:
        """Give the rates for a request of this size, or None when no period holds.

        Args:
            at: a time with a zone: when the provider began the request.
            input_tokens: all of its input, what the cache gave included.

        Raises:
            ValueError: `at` has no zone.

        """
        if self._only is not None:
            return self._only
        if at.tzinfo is None:
            raise ValueError("at needs a time zone")
        for period in self.periods:
            if period.holds(at):
                tiers = next((each.tiers for each in period.windows if each.holds(at)), period.tiers)
                rates = tiers[0]
                for tier in tiers[1:]:
                    if input_tokens <= tier.above_input_tokens:
                        break
                    rates = tier
                return rates
        return None

    def cost(self, usage: Usage, at: datetime) -> Decimal | None:
        """Give what a usage costs, USD with twelve decimals, or None when no period holds.

        A count of cached tokens that is larger than the input it is part of is taken as it is; the rest of the input is
        then nothing, never negative.
        """
        rates = self._only or self.rates_at(at, usage.input_tokens)
        if rates is None:
            return None
        plain, output, write, write_1h, read = rates.pico
        written, read_tokens = usage.cache_write_tokens, usage.cache_read_tokens
        pico = usage.output_tokens * output
        if written or read_tokens:
            written_1h = min(usage.cache_write_1h_tokens, written)
            pico += (written - written_1h) * write + written_1h * write_1h + read_tokens * read
            pico += max(0, usage.input_tokens - written - read_tokens) * plain
        else:
            pico += usage.input_tokens * plain
        return from_pico(pico)


def flat(
    *,
    input_usd: Decimal,
    output_usd: Decimal = Decimal(0),
    cache_write_usd: Decimal | None = None,
    cache_read_usd: Decimal | None = None,
    source: str = "",
) -> PriceSchedule:
    """Give a schedule that never changes, USD for a million tokens."""
    rates = Rates(
        input_usd=input_usd,
        output_usd=output_usd,
        cache_write_5m_usd=cache_write_usd,
        cache_read_usd=cache_read_usd,
    )
    return PriceSchedule(periods=(PricePeriod(tiers=(rates,)),), source=source)


def _pico_per_token(usd_per_million: Decimal) -> int:
    if not (usd_per_million.is_finite() and usd_per_million >= 0):
        raise ValueError(f"a price must be 0 or more, not {usd_per_million}")
    exponent = usd_per_million.normalize().as_tuple().exponent
    if isinstance(exponent, int) and -exponent > PRICE_DECIMALS:
        raise ValueError(f"a price for a million tokens has at most {PRICE_DECIMALS} decimals, not {usd_per_million}")
    return int(usd_per_million.scaleb(PRICE_DECIMALS))


def _check_tiers(tiers: tuple[Rates, ...]) -> None:
    bounds = [each.above_input_tokens for each in tiers]
    if not bounds or bounds[0] != 0 or any(low >= high for low, high in pairwise(bounds)):
        raise ValueError("tiers must begin at 0 input tokens and rise")
