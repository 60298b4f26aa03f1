"""The TypeScript client: types, linter, freshness of what is generated, and its own tests.

Its packages are installed once, from the lock file, into clients/web/node_modules.
"""

from __future__ import annotations

import itertools
import json
import shutil
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

import anyio.to_thread
import pytest

from gearshift.v1 import router_pb2
from tests.support.fake_router import Context, delta, running_fake_router, started
from tests.support.node_packages import TYPESCRIPT as HOME
from tests.support.node_packages import built_typescript_client, program, run

LOCK = HOME / "package-lock.json"


@pytest.fixture(scope="module")
def node() -> str:
    """Give node, with the client's packages installed and the client built."""
    return built_typescript_client()


def test_the_typescript_client_keeps_its_types_and_rules(node: str) -> None:
    run(HOME, node, "node_modules/typescript/bin/tsc", "-p", "test")
    run(HOME, node, "node_modules/eslint/bin/eslint.js", ".")


def test_what_is_generated_for_typescript_is_fresh(node: str) -> None:
    run(HOME, node, "tools/generate.js", "--check")


def test_the_bundle_that_the_service_ships_is_fresh(node: str) -> None:
    run(HOME, node, "tools/bundle.js", "--check")


def test_the_tests_of_the_typescript_client_pass(node: str) -> None:
    files = sorted(str(path.relative_to(HOME)) for path in (HOME / "test").glob("*.test.js"))
    assert len(files) >= 7
    said = run(HOME, node, "--test", "--test-reporter=tap", *files)
    assert "\n# fail 0\n" in said
    if shutil.which("chromium") is not None and find_spec("envoy") is not None:
        assert "\n# skipped 0\n" in said


def test_the_npm_package_holds_what_callers_need_and_runs_nothing_when_installed(node: str) -> None:
    (packed,) = json.loads(run(HOME, program("npm"), "pack", "--dry-run", "--json", "--loglevel=error"))
    names = {file["path"] for file in packed["files"]}
    assert names >= {"package.json", "README.md", "dist/node.js", "dist/node.d.ts", "dist/web.js", "dist/gearshift.js"}
    assert not [name for name in names if not name.startswith("dist/") and name not in {"package.json", "README.md"}]
    package = json.loads((HOME / "package.json").read_text())
    assert package["private"] is False
    assert not {"preinstall", "install", "postinstall", "prepare"} & package["scripts"].keys()
    locked = json.loads(LOCK.read_text())["packages"]
    assert not [name for name, one in locked.items() if one.get("hasInstallScript") and not one.get("dev")]


CONSUMER = """\
import { Accumulator, GearshiftError, Outcome, accumulate, call, createClient, type Snapshot } from "ENTRY";

const client = createClient({ ADDRESS, deadlineMs: 1000 });
const seen: Snapshot[] = [];
try {
  for await (const snapshot of accumulate(client.streamRoute(call("t", "hello")), new Accumulator())) {
    seen.push(snapshot);
  }
} catch (error) {
  if (!(error instanceof GearshiftError)) throw error;
  const { code, reason, retryAfter }: { code: string; reason: string; retryAfter: number } = error;
  console.log(code, reason === "", retryAfter, seen.length, Outcome.ACCEPTED);
}
client.close();
"""
FLAGS = ["--strict", "--exactOptionalPropertyTypes", "--noUncheckedIndexedAccess", "--target", "es2022"]


def test_the_packed_package_fits_strict_programs_for_node_and_for_browsers(node: str, tmp_path: Path) -> None:
    run(HOME, program("npm"), "pack", "--pack-destination", str(tmp_path), "--loglevel=error")
    modules = tmp_path / "node_modules"
    (modules / "@gearshift").mkdir(parents=True)
    (modules / "@types").mkdir()
    (tmp_path / "package.json").write_text('{"type": "module"}')
    run(modules / "@gearshift", "tar", "-xzf", str(next(tmp_path.glob("*.tgz"))))
    (modules / "@gearshift/package").rename(modules / "@gearshift/client")
    for name in ("@bufbuild", "@connectrpc", "@types/node"):
        (modules / name).symlink_to(HOME / "node_modules" / name)
    in_node, in_page = (
        ["--module", "nodenext", "--types", "node"],
        ["--module", "esnext", "--moduleResolution", "bundler"],
    )
    in_page += ["--lib", "es2022,dom,dom.iterable,dom.asynciterable"]
    target, base_url = 'target: "127.0.0.1:9"', 'baseUrl: "http://127.0.0.1:9"'
    for flags, entries in (
        (in_node, {"@gearshift/client": target, "@gearshift/client/web": base_url}),
        (in_page, {"@gearshift/client": base_url, "@gearshift/client/node": target}),
    ):
        for place, (entry, address) in enumerate(entries.items()):
            program_of = CONSUMER.replace("ENTRY", entry).replace("ADDRESS", address)
            (tmp_path / f"{place}.ts").write_text(program_of)
        run(tmp_path, node, str(HOME / "node_modules/typescript/bin/tsc"), *FLAGS, *flags, "0.ts", "1.ts")
        for place in range(2):
            assert run(tmp_path, node, f"{place}.js") == "UNAVAILABLE true 0 0 1\n"


BUNDLE = """\
import { build } from "esbuild";

const contents = 'import { digest } from "./dist/web.js"; console.log(await digest("gear"));';
const stdin = { contents, resolveDir: "." };
const { outputFiles } = await build({ stdin, bundle: true, format: "esm", platform: "browser", minify: true, write: false });
console.log(outputFiles[0].text);
"""


def test_what_a_program_does_not_use_is_not_bundled(node: str) -> None:
    bundle = run(HOME, node, "--input-type=module", "-e", BUNDLE)
    assert len(bundle) < 10_000
    assert run(HOME, node, "--input-type=module", "-e", bundle).strip() == sha256(b"gear").hexdigest()


UNREAD = """\
import { call, createClient } from "@gearshift/client";

const client = createClient({ target: process.argv[1] });
const stream = client.streamRoute(call("t"));
for (let read = 0; read < 10_000_000; ) {
  const { value } = await stream.next();
  read += value?.kind === "delta" ? value.text.length : 0;
}
setTimeout(() => client.close(), 1000); // in which a server that nothing stops sends much
"""


async def test_a_stream_that_nobody_reads_any_more_stops_its_server_early(node: str) -> None:
    sent = 0

    async def endless(_: object, context: Context) -> None:
        nonlocal sent
        await context.write(router_pb2.StreamRouteResponse(events=[started()]))
        for number in itertools.count(1):
            await context.write(router_pb2.StreamRouteResponse(events=[delta(number, "x" * 10_000)]))
            sent += 10_000

    async with running_fake_router() as (router, address):
        router.scripts["StreamRoute"] = endless
        await anyio.to_thread.run_sync(run, HOME, node, "--input-type=module", "-e", UNREAD, address)
    assert 10_000_000 <= sent + 10_000 < 11_000_000


def test_the_lock_file_names_no_registry_and_no_machine() -> None:
    locked = json.loads(LOCK.read_text())
    for name, package in locked["packages"].items():
        assert "resolved" not in package, name
        assert not name or "integrity" in package, name
