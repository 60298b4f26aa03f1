"""Reads gearshift.yaml.

Rules: everything that one file can show to be wrong is said at once, each problem with line and column; nothing but
the file is opened, and the environment is what the caller gives. No key is ever part of a message.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gearshift.core.config.decode import Decoder
from gearshift.core.config.document import MOST_BYTES, read_document
from gearshift.core.config.model import Config
from gearshift.core.config.problems import Mark, Place, Report
from gearshift.core.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedConfig:
    """A configuration and where each of its values stands, so that `build` can name lines too."""

    config: Config
    source: str = ""
    positions: Mapping[Place, Mark] = field(default_factory=dict[Place, Mark], repr=False)
    warnings: tuple[str, ...] = ()


def load_config(path: str | Path, env: Mapping[str, str]) -> LoadedConfig:
    """Read a file; `env` is what `${NAME}` is looked up in.

    Raises:
        ConfigError: the file cannot be read, or holds problems.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror or 'I/O error'}"]) from error
    if len(content) > MOST_BYTES:
        raise ConfigError([f"{path}: the file is larger than {MOST_BYTES // 1024} KiB"])
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError([f"{path}:{line}: is not UTF-8 text"]) from error
    return parse_config(text, env, str(path))


def parse_config(text: str, env: Mapping[str, str], source: str = "gearshift.yaml") -> LoadedConfig:
    """Read a text; `source` is the name that problems begin with.

    Raises:
        ConfigError: the text holds problems.
    """
    report = Report(source)
    root = read_document(text, report)
    decoder = Decoder(report, env)
    config = decoder.read(root, Config) if root is not None else Config()
    report.raise_problems()
    if config is None:
        raise ConfigError([f"{source}: is not a configuration"])
    return LoadedConfig(config=config, source=source, positions=decoder.positions, warnings=report.warnings)
