"""`gearshift stream`, and the demo's last step, in a terminal: text that is taken back goes from the screen, and the new text stands in its place."""

from __future__ import annotations

import importlib.resources
import os
import pty
import re
import struct
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import anyio.to_thread
import pytest

from gearshift.server.simulator import parse_plan, running_simulator
from tests.support.running_server import from_yaml, running_server
from tests.support.served_config import of_openai

fcntl = pytest.importorskip("fcntl")
termios = pytest.importorskip("termios")

WRONG = "The first stage says that the gear has eleven teeth and that nobody has ever counted them."
RIGHT = "The second stage counted twelve teeth on the old gear, and wrote the number down."
_PLAN = f"""\
providers:
  weak:
    wire: openai
    latency: {{token_ms: 2}}
    faults: [{{fault: "cut@14"}}]
  strong:
    wire: openai
    latency: {{first_token_ms: 100, token_ms: 2}}
answers:
  - {{provider: weak, text: "{WRONG}"}}
  - {{provider: strong, text: "{RIGHT}"}}
"""
_COLUMNS, _LINES = 40, 24
_DEMO = """\
version: 1
providers:
  shaky: {{kind: openai, dialect: compatible, base_url: "{shaky}"}}
  steady: {{kind: anthropic, base_url: "{steady}"}}
models:
  shaky-model: {{provider: shaky, wire_id: small, capability: low, prices: {{input_usd: 0.05, output_usd: 0.1}}}}
  steady-model: {{provider: steady, wire_id: large, capability: high, prices: {{input_usd: 3, output_usd: 15}}}}
chains:
  shift: {{stages: [{{provider: shaky, model: shaky-model, max_retries: 0}}, {{provider: steady, model: steady-model}}]}}
tasks:
  declared:
    demo/shift: {{type: generate, complexity: low, chain: shift}}
"""
"""What the demo's own configuration has for its last step, without the embedded model."""
_LAST_STEP = """\
import sys
from gearshift.clients.cli.commands import demo
from gearshift.clients.cli.terminal import palette_for
from gearshift.clients.sync import dial
with dial(sys.argv[1]) as client:
    sys.exit(0 if demo._shift(client, palette_for(sys.stdout)) else 1)
"""


class _Screen:
    """As much of a terminal as the command uses: text that wraps, going up, clearing what is below."""

    def __init__(self) -> None:
        self.rows = [""]
        self.row = self.column = 0
        self.seen: list[str] = []
        """What stood there whenever something was cleared."""

    def write(self, text: str) -> None:
        for up, clear, other, character in re.findall(r"\x1b\[(\d+)A|(\x1b\[J)|(\x1b\[[\d;]*m)|(.)", text, re.DOTALL):
            if up:
                self.row = max(0, self.row - int(up))
            elif clear:
                self.seen.append("".join(self.rows))
                self.rows = [*self.rows[: self.row], self.rows[self.row][: self.column]]
            elif character == "\r":
                self.column = 0
            elif character == "\n":
                self._down()
            elif not other:
                self._put(character)

    def _put(self, character: str) -> None:
        if self.column == _COLUMNS:
            self._down()
            self.column = 0
        row = self.rows[self.row]
        self.rows[self.row] = row[: self.column].ljust(self.column) + character + row[self.column + 1 :]
        self.column += 1

    def _down(self) -> None:
        self.row += 1
        if self.row == len(self.rows):
            self.rows.append("")


async def _in_terminal(*arguments: str, python: tuple[str, ...] = ("-m", "gearshift.clients.cli")) -> tuple[int, str]:
    """Run the command on a terminal of its own; give its exit code and everything that was written there."""
    ours, its = pty.openpty()
    written = bytearray()

    def read() -> None:
        try:
            while data := os.read(ours, 4096):
                written.extend(data)
        except OSError:  # the command has ended, and its side is closed
            pass

    try:
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", _LINES, _COLUMNS, 0, 0))
        with anyio.fail_after(20):
            command = [sys.executable, *python, *arguments]
            # A COLUMNS of another terminal must not mislead it.
            env = {**os.environ, "COLUMNS": "200", "LINES": "50"}
            async with await anyio.open_process(command, stdin=its, stdout=its, stderr=its, env=env) as process:
                os.close(its)
                its = -1
                await anyio.to_thread.run_sync(read, abandon_on_cancel=True)
                return await process.wait(), written.decode()
    finally:
        os.close(ours)
        if its >= 0:
            os.close(its)


@asynccontextmanager
async def _switching() -> AsyncGenerator[str]:
    async with running_simulator(parse_plan(_PLAN)) as simulator:
        urls = {name: url.removesuffix("/v1") for name, url in simulator.base_urls.items()}
        async with running_server(from_yaml(of_openai(urls))) as server:
            yield server.address


async def test_a_switch_takes_the_text_from_the_screen_and_writes_the_new_one() -> None:
    async with _switching() as address:
        command = ["stream", "--target", address, "--hold-back", "0", "Tell me about the gear."]
        code, written = await _in_terminal(*command)
    assert code == 0, written
    screen = _Screen()
    screen.write(written)
    stood, stands = screen.seen[0], "".join(screen.rows)
    assert "The first stage says" in stood
    assert "The first stage says" not in stands
    assert RIGHT in stands


async def test_with_the_hold_back_a_switch_is_never_seen() -> None:
    async with _switching() as address:
        code, written = await _in_terminal("stream", "--target", address, "Tell me about the gear.")
    assert code == 0, written
    assert "The first stage" not in written
    assert "The second stage counted" in written


async def test_the_demo_s_last_step_takes_back_and_writes_anew() -> None:
    plan = importlib.resources.files("gearshift.clients.cli.commands").joinpath("demo-simulator.yaml")
    async with (
        running_simulator(parse_plan(plan.read_text("utf-8"))) as simulator,
        running_server(from_yaml(_DEMO.format_map(simulator.base_urls))) as server,
    ):
        code, written = await _in_terminal(server.address, python=("-c", _LAST_STEP))
    assert code == 0, written
    screen = _Screen()
    screen.write(written)
    stood, stands = screen.seen[0], "".join(screen.rows)
    assert "So, a gearbox is basically a box" in stood
    assert "So, a gearbox" not in stands
    assert "[taken back: the connection to the provider failed]" in stands
    assert "A gearbox lets an engine run at the speed that suits it" in " ".join(stands.split())
