"""The shape of data.yaml, and how its entries become models.

Rules: unknown fields are errors; prices are quoted decimals, since a bare one would be read as a float; every price
names its source.
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import Annotated

from msgspec import Meta, Struct, field

from gearshift.core.catalogue.model import Feature, Model
from gearshift.core.catalogue.price import PricePeriod, PriceSchedule, PriceWindow, Rates
from gearshift.core.words import Complexity

Text = Annotated[str, Meta(min_length=1)]
Count = Annotated[int, Meta(ge=0)]

_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class RatesEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """USD for a million tokens."""

    above_input_tokens: Count = 0
    input: Text
    output: str = "0"
    cache_write_5m: str | None = None
    cache_write_1h: str | None = None
    cache_read: str | None = None


class WindowEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Hours in which other rates hold; `hours` are local, such as "09:00-12:00"."""

    weekdays: tuple[Text, ...]
    hours: tuple[Text, ...]
    utc_offset: Text
    tiers: tuple[RatesEntry, ...]
    except_dates: tuple[Text, ...] = ()


class PeriodEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rates between two moments, ISO 8601 with their zone."""

    valid_from: str | None = None
    valid_until: str | None = None
    tiers: tuple[RatesEntry, ...]
    windows: tuple[WindowEntry, ...] = ()


class PricesEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The prices of a model with where they come from."""

    source: Text
    periods: tuple[PeriodEntry, ...]


class ModelEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model. `aliases` maps another name to a sentence for those who use it, empty when there is nothing to say."""

    id: Text
    kind: Text
    dialect: str = ""
    wire_id: str = ""
    capability: Text
    context_tokens: Count = 0
    max_output_tokens: Count = 0
    features: tuple[Text, ...]
    prices: PricesEntry | None = None
    self_hosted: bool = False
    vector_space: str = ""
    dimensions: tuple[Count, ...] = ()
    max_batch: Count = 1
    max_input_tokens: Count = 0
    cache_minimum_tokens: Count = 0
    characters_per_token: float = 4.0
    options: dict[str, str] = field(default_factory=dict[str, str])
    note: str = ""
    aliases: dict[Text, str] = field(default_factory=dict[str, str])

    def model(self) -> Model:
        """Give the model.

        Raises:
            ValueError: a word, a price or a time is wrong.

        """
        try:
            return Model(
                id=self.id,
                provider_kind=self.kind,
                dialect=self.dialect,
                wire_id=self.wire_id or self.id,
                capability=Complexity.from_word(self.capability),
                context_tokens=self.context_tokens,
                max_output_tokens=self.max_output_tokens,
                features=frozenset(Feature(word) for word in self.features),
                prices=None if self.prices is None else _schedule(self.prices),
                self_hosted=self.self_hosted,
                vector_space=self.vector_space,
                dimensions=self.dimensions,
                max_batch=self.max_batch,
                max_input_tokens=self.max_input_tokens,
                cache_minimum_tokens=self.cache_minimum_tokens,
                characters_per_token=self.characters_per_token,
                options=self.options,
                note=self.note,
            )
        except (ValueError, KeyError, InvalidOperation) as error:
            raise ValueError(f"model {self.id}: {error!r}") from error


class CatalogueFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file; `as_of` is when it was put together."""

    version: Annotated[int, Meta(ge=1, le=1)]
    as_of: date
    models: tuple[ModelEntry, ...]


def _schedule(entry: PricesEntry) -> PriceSchedule:
    return PriceSchedule(periods=tuple(_period(each) for each in entry.periods), source=entry.source)


def _period(entry: PeriodEntry) -> PricePeriod:
    return PricePeriod(
        tiers=tuple(_rates(each) for each in entry.tiers),
        windows=tuple(window for each in entry.windows for window in _windows(each)),
        valid_from=None if entry.valid_from is None else datetime.fromisoformat(entry.valid_from),
        valid_until=None if entry.valid_until is None else datetime.fromisoformat(entry.valid_until),
    )


def _windows(entry: WindowEntry) -> list[PriceWindow]:
    weekdays = frozenset(_WEEKDAYS.index(word) for word in entry.weekdays)
    tiers = tuple(_rates(each) for each in entry.tiers)
    except_dates = frozenset(date.fromisoformat(text) for text in entry.except_dates)
    sign = -1 if entry.utc_offset.startswith("-") else 1
    offset = sign * _minutes(entry.utc_offset.lstrip("+-"))
    windows: list[PriceWindow] = []
    for text in entry.hours:
        start, _, end = text.partition("-")
        windows.append(
            PriceWindow(
                weekdays=weekdays,
                start_minute=_minutes(start),
                end_minute=_minutes(end),
                utc_offset_minutes=offset,
                tiers=tiers,
                except_dates=except_dates,
            )
        )
    return windows


def _minutes(text: str) -> int:
    hours, _, minutes = text.partition(":")
    return int(hours) * 60 + int(minutes)


def _rates(entry: RatesEntry) -> Rates:
    return Rates(
        above_input_tokens=entry.above_input_tokens,
        input_usd=Decimal(entry.input),
        output_usd=Decimal(entry.output),
        cache_write_5m_usd=_optional(entry.cache_write_5m),
        cache_write_1h_usd=_optional(entry.cache_write_1h),
        cache_read_usd=_optional(entry.cache_read),
    )


def _optional(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)
