"""Does what a page for people says, block by block, in a folder of its own.

    async with page_session(folder) as session:
        for block in blocks_of(page, ROOT):
            await session.do(block)

Rules: what the page starts (`gearshift serve`, `make serve`, `gearshift simulate`) is started on free ports, and its
addresses stand in for those of the page everywhere after that, in commands, programs and files; outputs are turned back.
What it writes lies in the folder. Nothing is left running. Simulated providers are made quick.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import anyio
import msgspec
import yaml
from anyio.streams.text import TextReceiveStream

from gearshift.clients.cli.exits import NOT_ACCEPTED
from gearshift.clients.cli.program import new_parser
from gearshift.core.catalogue import Catalogue
from gearshift.core.config.build import build
from gearshift.core.config.load import load_config
from gearshift.core.errors import ConfigError
from tests.support.page_blocks import Block, Typed, same, typed
from tests.support.served_process import START_S, ServedProcess, served

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
BOUND_S = 60.0
BUILD_BOUND_S = 300.0
"""Of a build whose caches are cold, on a machine that does much else."""
GRPC, HTTP, SIMULATOR = "127.0.0.1:50051", "127.0.0.1:9464", "127.0.0.1:8099"
"""The addresses that pages use."""
_VARIABLE = re.compile(r"[A-Z_]+=")
_ASSIGNMENT = re.compile(r"[A-Z_]+=\$\(.*\)")
_SIMULATING = re.compile(r"simulating on http://(\S+?),")
_UNRUN = frozenset(
    {"cd", "docker", "export", "git", "go", "kubectl", "make", "npm", "ollama", "pip", "llama-server", "vllm"}
)
"""Programs of commands that are only looked at."""


RUN = {
    "console": "its commands are run, what they print is compared",
    "yaml": "gearshift check takes it",
    "json": "it is JSON",
    "python": "it is run, what it prints is compared",
    "go": "it is built and run, what it prints is compared",
    "ts": "its types are looked at, it is run, what it prints is compared",
}
"""What becomes of a block without a mark, by its language."""


class PageError(AssertionError):
    """Raised when a page says what is not so; names the block."""


class PageSession:
    """One page's folder, environment and running processes.

    Args:
        folder: empty; deploy/examples is put into it.
    """

    def __init__(self, folder: Path, stack: AsyncExitStack) -> None:
        self.folder = folder
        self._stack = stack
        self._server: AsyncExitStack | None = None
        self._there: dict[str, str] = {}
        self._set: dict[str, str] = {}
        """Variables that the page has set, for the commands after that."""
        shutil.copytree(ROOT / "deploy/examples", folder / "deploy/examples")
        plan = folder / "deploy/examples/simulator.yaml"
        plan.write_text(re.sub(r"latency: {.*?}", "latency: {first_token_ms: 5, token_ms: 1}", plan.read_text()))

    async def do(self, block: Block) -> None:
        """Run a block, or look at it where it cannot be run.

        Raises:
            PageError: it does not do what the page says, or nobody knows how to run it.
        """
        if block.is_output or "shown" in block.marks:
            if block.language != "text":
                raise PageError(f"{block.place}: only text is shown")
            return
        if name := block.marks.get("file"):
            self._write(name, block.body)
        try:
            if "not run" in block.marks:
                self._look_at(block)
                return
            match block.language:
                case "console":
                    for each in typed(block.body):
                        await self._command(each, block, code=_code(block, each))
                case "yaml":
                    self._check(block)
                case "json":
                    msgspec.json.decode(block.body)
                case "python":
                    await self._program(block, [sys.executable, str(self._write("page.py", block.body))])
                case "go":
                    await self._program(block, [str(await self._go(block))])
                case "ts":
                    await self._typescript(block)
                case _:
                    raise PageError(f"{block.place}: nobody runs a block of `{block.language}` without a mark")
        except (msgspec.DecodeError, yaml.YAMLError, SyntaxError) as error:
            raise PageError(f"{block.place}: {error}") from error

    # Commands

    async def _command(self, asked: Typed, block: Block, *, code: int) -> None:
        if _ASSIGNMENT.fullmatch(asked.command):
            await self._assign(asked.command, block)
            return
        words = shlex.split(asked.command)
        variables: dict[str, str] = {}
        while _VARIABLE.match(words[0]):
            name, _, variables[name] = words.pop(0).partition("=")
        if words[:2] == ["make", "serve"]:
            words = ["gearshift", *_recipe("serve")]
        if words[:2] == ["gearshift", "serve"]:
            told = await self._serve(words[2:], variables, asked.printed or "")
        elif words[:2] == ["gearshift", "simulate"] and "--faults" not in words:
            told = await self._simulate(words[2:])
        else:
            told, ended = await self._run(["bash", "-o", "pipefail", "-c", self._here(asked.command)])
            if ended != code and not ("varies" in block.marks and ended == NOT_ACCEPTED):
                raise PageError(f"{block.place}: `{asked.command}` ended with {ended}, not {code}:\n{told}")
        self._compare(told, asked.printed, block, exactly=False)

    async def _assign(self, command: str, block: Block) -> None:
        """Keep what a line such as `SINCE=$(date)` sets."""
        name = command.partition("=")[0]
        told, ended = await self._run(["bash", "-c", f'{self._here(command)} && printf %s "${name}"'])
        if ended or not told:
            raise PageError(f"{block.place}: `{command}` sets nothing:\n{told}")
        self._set[name] = told

    async def _serve(self, words: list[str], variables: dict[str, str], shown: str) -> str:
        config: Path | None = None
        if words:
            if words[0] not in ("--config", "-c") or len(words) != 2:
                raise PageError(f"pages start `gearshift serve` with --config at most, not with {words}")
            config = self.folder / words[1]
        if self._server is not None:
            await self._server.aclose()
        self._server = await self._stack.enter_async_context(AsyncExitStack())
        for file in self.folder.rglob("*.yaml"):
            file.write_text(self._here(file.read_text()))
        process: ServedProcess = await self._server.enter_async_context(
            served(config, env=self._environment() | variables, cwd=self.folder)
        )
        if last := shown.strip().rpartition("\n")[2]:
            await process.says(last.partition(" http")[0].removesuffix("…"))
        self._there |= {GRPC: process.address, HTTP: process.http.removeprefix("http://")}
        return process.said

    async def _simulate(self, words: list[str]) -> str:
        port = words.index("--port")
        if words[port + 1] != SIMULATOR.partition(":")[2]:
            raise PageError(f"pages simulate on {SIMULATOR}")
        words[port + 1] = "0"
        process = await self._stack.enter_async_context(
            await anyio.open_process(
                [BIN / "gearshift", "simulate", *words],
                cwd=self.folder,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
        )
        self._stack.callback(_kill, process)
        said = ""
        assert process.stderr is not None
        with anyio.fail_after(START_S):
            async for text in TextReceiveStream(process.stderr):
                said += text
                if found := _SIMULATING.search(said):
                    self._there[SIMULATOR] = found[1]
                    return said
        raise PageError(f"the simulator did not start: {said}")

    # Programs

    async def _program(self, block: Block, command: list[str]) -> None:
        told, ended = await self._run(command, errors=False)
        if ended != int(block.marks.get("exit code", "0")):
            raise PageError(f"{block.place}: it ended with {ended}:\n{told}")
        if block.printed is None:
            raise PageError(f"{block.place}: the page does not say what it prints:\n{told}")
        self._compare(told, block.printed, block, exactly=True)

    async def _go(self, block: Block) -> Path:
        """Build a program against the module of this repository; give it."""
        client = ROOT / "clients/go"
        module = self.folder / "go"
        module.mkdir(exist_ok=True)
        requires = "\n".join(
            re.findall(r"^require \(.*?^\)", (client / "go.mod").read_text(), re.MULTILINE | re.DOTALL)
        )
        (module / "go.mod").write_text(
            f"module page\n\ngo 1.26.0\n\nrequire github.com/gearshift-ai/gearshift/clients/go v0.0.0\n\n"
            f"replace github.com/gearshift-ai/gearshift/clients/go => {client}\n\n{requires}\n"
        )
        shutil.copy(client / "go.sum", module / "go.sum")
        self._write("go/main.go", block.body)
        told, ended = await self._run(
            ["go", "build", "-mod=mod", "-o", str(module / "page"), "."], cwd=module, bound_s=BUILD_BOUND_S
        )
        if ended:
            raise PageError(f"{block.place}: it does not compile:\n{told}")
        return module / "page"

    async def _typescript(self, block: Block) -> None:
        """Look at its types, then run it: pages write what JavaScript takes too."""
        client = await self._web_client()
        scope = self.folder / "node_modules/@gearshift"
        scope.mkdir(parents=True, exist_ok=True)
        link = scope / "client"
        if not link.exists():
            link.symlink_to(client)
            (scope.parent / "@types").symlink_to(client / "node_modules/@types")
        self._write("page.mts", block.body)
        compiler = client / "node_modules/typescript/bin/tsc"
        flags = [
            "--noEmit",
            "--strict",
            "--skipLibCheck",
            "--target",
            "es2022",
            "--module",
            "nodenext",
            "--types",
            "node",
        ]
        told, ended = await self._run(["node", str(compiler), *flags, "page.mts"])
        if ended:
            raise PageError(f"{block.place}: its types do not fit:\n{told}")
        await self._program(block, ["node", str(self._write("page.mjs", block.body))])

    async def _web_client(self) -> Path:
        """Give clients/web with its packages from the lock file, built, as its own tests make it."""
        client = ROOT / "clients/web"
        for made, command in (
            ("node_modules/typescript/bin/tsc", ["npm", "ci", "--ignore-scripts"]),
            ("dist/node.js", ["node", "node_modules/typescript/bin/tsc"]),
        ):
            if not (client / made).exists():
                told, ended = await self._run(command, cwd=client, bound_s=BUILD_BOUND_S)
                if ended:
                    raise PageError(f"`{' '.join(command)}` in clients/web ended with {ended}:\n{told}")
        return client

    # Files

    def _check(self, block: Block) -> None:
        """Do what `gearshift check` does, with some key wherever the file asks for one."""
        file = self._write(block.marks.get("file", "page.yaml"), block.body)
        keys = dict.fromkeys(re.findall(r"\$\{(\w+)\}", block.body), "a-key")
        try:
            build(load_config(file, keys), Catalogue.load())
        except ConfigError as error:
            raise PageError(f"{block.place}: gearshift check refuses it: {error}") from error

    def _write(self, name: str, text: str) -> Path:
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(self._here(text))
        return file

    # Without running

    def _look_at(self, block: Block) -> None:
        match block.language:
            case "console":
                for each in typed(block.body):
                    look_at_command(each.command, block.place)
            case "yaml":
                yaml.safe_load(block.body)
            case "json":
                msgspec.json.decode(block.body)
            case "python":
                compile(block.body, block.place, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            case "ts" | "go":
                _balanced(block)
            case _:
                raise PageError(f"{block.place}: nobody looks at a block of `{block.language}`")

    # What all of them share

    async def _run(
        self, command: list[str], *, cwd: Path | None = None, errors: bool = True, bound_s: float = BOUND_S
    ) -> tuple[str, int]:
        with anyio.fail_after(bound_s):
            done = await anyio.run_process(
                command,
                check=False,
                cwd=cwd or self.folder,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stderr=subprocess.STDOUT if errors else subprocess.PIPE,
            )
        told = done.stdout.decode(errors="replace")
        if done.returncode and not errors:
            told += done.stderr.decode(errors="replace")
        return told, done.returncode

    def _environment(self) -> dict[str, str]:
        kept = {
            name: os.environ[name]
            for name in ("HOME", "LANG", "TMPDIR", "GOPATH", "GOCACHE", "GOMODCACHE", "GOPROXY", "GOFLAGS")
            if name in os.environ
        }
        return {
            **kept,
            **self._set,
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "XDG_STATE_HOME": str(self.folder / ".state"),
            "GEARSHIFT_TARGET": self._there.get(GRPC, GRPC),
            "COLUMNS": "200",
            "NO_COLOR": "1",
        }

    def _here(self, text: str) -> str:
        for ours, theirs in self._there.items():
            text = text.replace(ours, theirs)
        return text

    def _compare(self, told: str, shown: str | None, block: Block, *, exactly: bool) -> None:
        for ours, theirs in self._there.items():
            told = told.replace(theirs, ours)
        if "varies" in block.marks and told.strip():
            return
        if shown is not None and not same(told, shown, exactly=exactly):
            shown, told = textwrap.indent(shown, "  "), textwrap.indent(told, "  ")
            raise PageError(f"{block.place}: the page shows\n{shown}\nand it prints\n{told}")


@asynccontextmanager
async def page_session(folder: Path) -> AsyncGenerator[PageSession]:
    """Give a session; whatever it started ends with the block."""
    async with AsyncExitStack() as stack:
        yield PageSession(folder, stack)


def look_at_command(command: str, place: str) -> None:
    """Say whether a command is one that there is.

    Raises:
        PageError: it is not.
    """
    words = shlex.split(command.replace("…", "x"))
    if words[0] == "gearshift":
        try:
            new_parser(words[1:]).parse_args(words[1:])
        except SystemExit as leave:
            raise PageError(f"{place}: `{command}` is not what the command line takes") from leave
    elif words[0] not in _UNRUN:
        raise PageError(f"{place}: nobody looks at `{words[0]}`")
    elif words[0] == "make":
        _recipe(words[1])


def _balanced(block: Block) -> None:
    """Say whether what cannot be compiled here closes what it opens."""
    for opening, closing in ("()", "[]", "{}"):
        if block.body.count(opening) != block.body.count(closing):
            raise PageError(f"{block.place}: `{opening}` and `{closing}` do not pair")


def _recipe(target: str) -> list[str]:
    """Give what a target of the Makefile has `gearshift` do, in words.

    Raises:
        PageError: there is no such target.
    """
    found = re.search(rf"^{target}:.*\n\t(.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    if found is None:
        raise PageError(f"the Makefile has no target `{target}`")
    return shlex.split(found[1].replace("$", ""))[1:]


def _code(block: Block, command: Typed) -> int:
    last = typed(block.body)[-1]
    return int(block.marks.get("exit code", "0")) if command == last else 0


def _kill(process: anyio.abc.Process) -> None:
    if process.returncode is None:
        process.kill()
