"""Checks a configuration that was made in Python instead of read from a file.

Rule: the same checks as for a file, since the same types say what is right; `${NAME}` is plain text here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping as AnyMapping
from collections.abc import Sequence as AnySequence
from decimal import Decimal

from msgspec import Struct

from gearshift.core.config.decode import Decoder
from gearshift.core.config.document import Mapping, Node, Scalar, Sequence
from gearshift.core.config.model import Config
from gearshift.core.config.problems import NOWHERE, Report
from gearshift.core.errors import ConfigError


def checked(config: Config) -> Config:
    """Give the configuration with every value of its own type.

    Raises:
        ConfigError: holds every value that is wrong.
    """
    report = Report()
    result = Decoder(report, {}).read(_node(config), Config)
    report.raise_problems()
    return result or config


def _node(value: object) -> Node:
    match value:
        case Struct():
            fields = {name: getattr(value, name) for name in value.__struct_fields__}
            defaults = dict(zip(value.__struct_fields__[::-1], value.__struct_defaults__[::-1], strict=False))
            # What was not set is right, and saves most of the work.
            return _node({name: each for name, each in fields.items() if each != defaults.get(name, _NO_DEFAULT)})
        case str():
            return Scalar(mark=NOWHERE, text=value.replace("${", "$${"), plain=False)
        case AnyMapping():
            entries = [(Scalar(mark=NOWHERE, text=str(key), plain=False), _node(each)) for key, each in value.items()]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
            return Mapping(mark=NOWHERE, entries=entries)
        case AnySequence():
            return Sequence(mark=NOWHERE, items=[_node(each) for each in value])  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        case bool():
            return Scalar(mark=NOWHERE, text=str(value).lower(), plain=True)
        case float() if not math.isfinite(value):
            return Scalar(mark=NOWHERE, text=".nan", plain=True)
        case int() | float() | Decimal():
            return Scalar(mark=NOWHERE, text=str(value), plain=True)
        case None:
            return Scalar(mark=NOWHERE, text="null", plain=True)
        case _:
            raise ConfigError([f"a configuration cannot hold a value of type {type(value).__name__}"])


_NO_DEFAULT = object()
