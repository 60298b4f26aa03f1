"""The catalogue: which models there are, under which names, at which prices.

Rules: read whole and checked once, then only looked up; a name belongs to one kind of provider and one dialect of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from difflib import get_close_matches
from importlib.resources import files
from typing import TYPE_CHECKING, Self

import msgspec
import yaml

from gearshift.core.catalogue.file import CatalogueFile
from gearshift.core.catalogue.model import Model
from gearshift.core.catalogue.price import PriceSchedule, flat
from gearshift.core.errors import ConfigError

if TYPE_CHECKING:  # the configuration imports the catalogue
    from gearshift.core.config.model import PriceConfig

_Key = tuple[str, str, str]
"""Kind, dialect, name."""


class Catalogue:
    """Known models by kind, dialect and name. Tasks and threads may share it: it never changes.

    Args:
        models: no two of a kind and dialect share an id.
        aliases: (kind, dialect, other name) to (id, a sentence for its users).
        as_of: when the file was put together.

    """

    def __init__(self, models: Iterable[Model], aliases: Mapping[_Key, tuple[str, str]], as_of: date) -> None:
        self.as_of = as_of
        self._models = {(each.provider_kind, each.dialect, each.id): each for each in models}
        self._aliases = dict(aliases)

    @classmethod
    def load(cls) -> Self:
        """Read the catalogue that comes with this package.

        Raises:
            ConfigError: the file is broken, which a test rules out.

        """
        return cls.parse(files("gearshift.core.catalogue").joinpath("data.yaml").read_text("utf-8"))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a catalogue from YAML.

        Raises:
            ConfigError: says what is wrong and where.

        """
        # The C loader is ten times faster and has the same rules; some builds of PyYAML lack it.
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        try:
            content = msgspec.convert(yaml.load(text, Loader=loader), CatalogueFile)
            models = [each.model() for each in content.models]
        except (yaml.YAMLError, msgspec.ValidationError, ValueError) as error:
            raise ConfigError([f"catalogue: {error}"]) from error
        problems: list[str] = []
        taken: set[_Key] = set()
        aliases: dict[_Key, tuple[str, str]] = {}
        for entry in content.models:
            for name in (entry.id, *entry.aliases):
                key = (entry.kind, entry.dialect, name)
                if key in taken:
                    problems.append(f"catalogue: {entry.kind} {entry.dialect} has two models named {name!r}".strip())
                taken.add(key)
                if name != entry.id:
                    aliases[key] = (entry.id, entry.aliases[name])
        if problems:
            raise ConfigError(problems)
        return cls(models, aliases, content.as_of)

    @staticmethod
    def price_config(config: PriceConfig) -> PriceSchedule:
        """Give the schedule of prices that stand in the configuration.

        Raises:
            ConfigError: a price is finer than six decimals.

        """
        try:
            return flat(
                input_usd=config.input_usd,
                output_usd=config.output_usd,
                cache_write_usd=config.cache_write_usd,
                cache_read_usd=config.cache_read_usd,
                source="configuration",
            )
        except ValueError as error:
            raise ConfigError([f"prices: {error}"]) from error

    @property
    def models(self) -> tuple[Model, ...]:
        """All models, in the file's order."""
        return tuple(self._models.values())

    def find(self, provider_kind: str, name: str, dialect: str = "") -> Model | None:
        """Give the model with this id or alias, or None.

        Args:
            provider_kind: the adapter's kind.
            name: an id or an alias, exactly as written.
            dialect: empty also finds a name that only one dialect of the kind has.

        """
        key = self._key(provider_kind, name, dialect)
        return None if key is None else self._models[key]

    def alias_note(self, provider_kind: str, name: str, dialect: str = "") -> str:
        """Give what users of this alias should know, a sentence; empty for ids and plain aliases."""
        for key, (_, note) in self._aliases.items():
            if key[0] == provider_kind and key[2] == name and dialect in ("", key[1]):
                return note
        return ""

    def names(self, provider_kind: str, dialect: str = "") -> tuple[str, ...]:
        """Give all ids and aliases of a kind, sorted; of all its dialects when none is named."""
        return tuple(
            sorted(
                {
                    name
                    for kind, its_dialect, name in (*self._models, *self._aliases)
                    if kind == provider_kind and dialect in ("", its_dialect)
                }
            )
        )

    def suggest(self, provider_kind: str, name: str, dialect: str = "") -> tuple[str, ...]:
        """Give up to three names that look like this one, the nearest first."""
        return tuple(get_close_matches(name, self.names(provider_kind, dialect), n=3, cutoff=0.5))

    def _key(self, kind: str, name: str, dialect: str) -> _Key | None:
        exact = self._resolve((kind, dialect, name))
        if exact is not None or dialect:
            return exact
        dialects = {key[1] for key in self._models if key[0] == kind}
        found = {key for each in dialects if (key := self._resolve((kind, each, name))) is not None}
        return found.pop() if len(found) == 1 else None

    def _resolve(self, key: _Key) -> _Key | None:
        if key in self._models:
            return key
        target = self._aliases.get(key)
        return None if target is None else (key[0], key[1], target[0])
