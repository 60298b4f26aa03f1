"""The embedded model for tests: weights put together once a run, and one child for a module.

pytestmark = needs_embedded

@pytest.fixture(scope="module")
def model() -> Iterator[EmbeddedModel]:
    with running_child() as model:
        yield model
"""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import anyio.from_thread
import pytest

from gearshift.core.embedded import (
    EmbeddedModel,
    EmbeddedSettings,
    default_weights_are_installed,
    runtime_is_installed,
)
from gearshift.core.embedded.weights import INSTALL

needs_embedded = pytest.mark.skipif(
    not (default_weights_are_installed() and runtime_is_installed()),
    reason=f"the embedded model is not installed: {INSTALL}",
)


@functools.cache
def weights_home() -> Path:
    """Give a home folder whose cache holds the default weights once something has used it; removed with the process."""
    home = Path(tempfile.mkdtemp(prefix="gearshift-tests-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)  # 253 MB that nobody wants to keep
    return home


def child_settings() -> EmbeddedSettings:
    """Give the default settings, with the weights of this run."""
    return EmbeddedSettings(cache_directory=weights_home() / ".cache" / "gearshift" / "embedded")


@contextmanager
def running_child() -> Generator[EmbeddedModel]:
    """Run one child, kept by an event loop in a thread of its own: a fixture must not yield inside a task group."""
    model = EmbeddedModel(child_settings())
    with anyio.from_thread.start_blocking_portal() as portal, portal.wrap_async_context_manager(model) as running:
        yield running
