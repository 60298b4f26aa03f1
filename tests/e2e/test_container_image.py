"""The Dockerfile, read by hadolint and compared with the code; and the service under the rights that the image gives it.

No image is built here: that needs a container runtime and a registry. What the image relies on is tried without one: a
process that is nobody in particular, on a file system that cannot be written.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Generator
from pathlib import Path

import anyio
import pytest

from gearshift.clients.cli.program import new_parser
from gearshift.core.config.model import ServerConfig
from gearshift.server.cli.configured import CONFIG_VARIABLE
from gearshift.v1 import router_pb2
from tests.support.openai_bodies import openai_answer
from tests.support.running_server import plain_call
from tests.support.scripted_server import Reply, scripted
from tests.support.served_config import one_openai
from tests.support.served_process import served, stubs

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy/docker/Dockerfile"
IGNORED = ROOT / "deploy/docker/Dockerfile.dockerignore"
HADOLINT = Path(sys.executable).parent / "hadolint"
BOUND_S = 20.0
NOBODY = "10001"

# The root cannot be written, /tmp is new and empty; no user's rights, no capability, and none to be had.
_AS_THE_IMAGE = f"""
mount --make-rprivate / && mount -o remount,bind,ro / && mount -t tmpfs tmpfs /tmp && cd / &&
exec setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups --no-new-privs --bounding-set=-all "$@"
"""
LIKE_THE_IMAGE = ("unshare", "--mount", "sh", "-c", _AS_THE_IMAGE, "sh")


def instructions() -> list[tuple[str, str]]:
    """Give every instruction and its words, continued lines joined."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    lines = (line.split(None, 1) for line in text.splitlines() if line.strip())
    return [(word, " ".join(rest.split())) for word, rest in lines]


def of(word: str) -> list[str]:
    return [rest for each, rest in instructions() if each == word]


def test_hadolint_finds_nothing() -> None:
    done = subprocess.run([HADOLINT, str(DOCKERFILE)], check=False, capture_output=True, text=True, timeout=BOUND_S)
    assert done.returncode == 0, done.stdout


def test_last_stage_is_nobody_and_copies_only_what_was_built() -> None:
    last = instructions()[max(at for at, (word, _) in enumerate(instructions()) if word == "FROM") :]
    assert ("USER", f"{NOBODY}:{NOBODY}") in last
    assert [rest for word, rest in last if word == "COPY"] == ["--from=build /opt/gearshift /opt/gearshift"]
    after = last[last.index(("USER", f"{NOBODY}:{NOBODY}")) :]
    assert not [word for word, _ in after if word in ("RUN", "COPY", "ADD")]
    manifest = (ROOT / "deploy/kubernetes/deployment.yaml").read_text()
    assert f"runAsUser: {NOBODY}" in manifest and f"fsGroup: {NOBODY}" in manifest


def test_what_is_copied_is_there_and_not_ignored() -> None:
    taken = {line.removeprefix("!") for line in IGNORED.read_text().splitlines() if line.startswith("!")}
    copied = {name for rest in of("COPY") if "--from" not in rest for name in rest.split()[:-1]}
    assert copied == taken
    assert all((ROOT / name).exists() for name in copied)
    # Everything that the wheel is made of.
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    roots = {name.partition("/")[0] for name in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]}
    assert roots <= copied and project["project"]["readme"] in copied
    extras = next(rest for rest in of("ARG") if rest.startswith("EXTRAS=")).partition("=")[2].split(",")
    assert set(extras) <= set(project["project"]["optional-dependencies"])
    python = next(rest for rest in of("ARG") if rest.startswith("PYTHON=")).partition("=")[2]
    assert any(each.endswith(f":: {python}") for each in project["project"]["classifiers"])


def test_commands_and_ports_are_the_service_s() -> None:
    assert json.loads(of("ENTRYPOINT")[0]) == ["gearshift"]
    for command in (json.loads(of("CMD")[0]), json.loads(of("HEALTHCHECK")[0].partition("CMD ")[2])[1:]):
        new_parser(command).parse_args(command)
    assert of("EXPOSE") == [f"{ServerConfig().port} {ServerConfig().http_port}"]
    assert any(f"{CONFIG_VARIABLE}=" in rest for rest in of("ENV"))


@pytest.fixture
def folder() -> Generator[Path]:
    """A folder that everybody may read, and that is not below /tmp."""
    with tempfile.TemporaryDirectory(prefix="gearshift-image-", dir="/var/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


async def test_it_serves_as_nobody_on_a_root_that_cannot_be_written(folder: Path) -> None:
    if shutil.which("unshare") is None or shutil.which("setpriv") is None:
        pytest.skip("needs unshare and setpriv (util-linux)")
    tried = await anyio.run_process([*LIKE_THE_IMAGE, sys.executable, "-c", "import gearshift.server"], check=False)
    if tried.returncode != 0:
        pytest.skip(f"this machine does not allow mount namespaces: {tried.stderr.decode().strip()}")
    async with scripted(Reply.json(openai_answer("hello there"))) as upstream:
        config = folder / "gearshift.yaml"
        config.write_text(one_openai(upstream.url))
        environment = {"XDG_STATE_HOME": "/tmp", "HOME": "/nowhere", "PYTHONDONTWRITEBYTECODE": "1"}
        async with served(config, prefix=LIKE_THE_IMAGE, env=environment) as process:
            status = await anyio.Path(f"/proc/{process.pid}/status").read_text()
            assert re.search(rf"^Uid:\s+{NOBODY}\b", status, re.MULTILINE)
            assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE)
            assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)
            async with stubs(process.address) as (router, _):
                answer = (await router.Route(router_pb2.RouteRequest(call=plain_call()))).answer
                assert answer.text == "hello there"
            health = [sys.executable, "-m", "gearshift.clients.cli", "health", "--target", process.address]
            with anyio.fail_after(BOUND_S):
                asked = await anyio.run_process([*LIKE_THE_IMAGE, *health], check=False)
            assert (asked.returncode, asked.stdout) == (0, b"SERVING\n")
            # Its ledger is the one thing it wrote.
            written = anyio.Path(f"/proc/{process.pid}/root/tmp")
            names = {str(each.relative_to(written)) async for each in written.rglob("*") if await each.is_file()}
            assert names and all(name.startswith("gearshift/ledger.db") for name in names)
            process.process.terminate()
            assert await process.wait() == 0
