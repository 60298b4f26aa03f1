"""`gearshift replay`: a workload through the real service, against a single model.

Rules: nothing leaves this machine: the providers are simulated and answer with what the trace recorded. The result goes to
standard output, everything else to standard error; the bar is drawn on a terminal only. Ctrl-C prints what there is.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import signal
import sys
import tempfile
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from gearshift.core.errors import RouteError

if TYPE_CHECKING:
    from gearshift.server.replay.driver import Run
    from gearshift.server.replay.trace import Call
    from gearshift.server.replay.world import World

_EPILOG = """TRACE is one of (docs/replay.md):
  JSON lines   {"at_s": 0.5, "task": "reason", "prompt": "...", "answers": {"openai/small": {"text": "...", "correct": true}}}
  CSV          t_s,in_tok,out_tok: when requests came and how long they were; texts are made up
  CSV          what `gearshift costs export` wrote: your own traffic, its lengths and times, no texts

what it does:
  For the chains, and for each baseline, it starts the service with its own ledger, on simulated providers that speak the
  real formats over HTTP. They answer with the recorded texts, in the recorded time, and fail as often as --fault-rate or
  --plan says. Routing, gates, retries, fallbacks and prices are the real ones. All runs get each call at the same moment.

examples:
  gearshift replay monday.jsonl --chains gearshift.yaml --speed 10
  gearshift replay monday.jsonl --chains gearshift.yaml --baseline anthropic/claude-sonnet-5 --fault-rate 0.02 --plot out.png
  gearshift replay recorded.jsonl --chains gearshift.yaml --mix classify=70,extract=20,reason=10 --limit 2000
  gearshift replay recorded.jsonl --chains gearshift.yaml --arrivals traffic.csv.gz --speed 5

exit codes: 0 done, 1 trace or configuration cannot be used, 2 wrong arguments, 130 stopped by Ctrl-C; what had ended is printed"""

_INTERRUPTED = 130
_LATE_S = 0.1


class ReplayCommand:
    """Replays a workload."""

    name = "replay"
    help = "play a workload through the chains and through a single model, and compare"

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments."""
        parser.add_argument("trace", type=Path, metavar="TRACE", help="the calls; .gz is unpacked")
        parser.add_argument("--chains", "-c", metavar="FILE", required=True, help="the configuration with the chains")
        parser.add_argument(
            "--baseline",
            action="append",
            metavar="MODEL",
            help="what to compare with: `last` (each chain's last stage alone, the default), `first`, or provider/model; with "
            "@0 behind it, without any retry; may be given again; `none` compares with nothing",
        )
        parser.add_argument("--speed", type=_above, default=1.0, metavar="X", help="calls come X times as fast (1)")
        parser.add_argument("--limit", type=_whole, metavar="N", help="the first N calls only")
        parser.add_argument(
            "--mix", type=_mix, metavar="TASK=SHARE,...", help="draw calls so that tasks have these shares"
        )
        parser.add_argument("--arrivals", type=Path, metavar="FILE", help="take the times of this trace instead")
        parser.add_argument("--task", default="generate", help="task of calls that name none (generate)")
        parser.add_argument("--plan", metavar="FILE", help="latency, quality and faults, as for `gearshift simulate`")
        parser.add_argument(
            "--fault-rate",
            type=_share,
            default=0.0,
            metavar="SHARE",
            help="share of each provider's requests that fail: 429, 529, 500 and resets in equal parts (0)",
        )
        parser.add_argument(
            "--outage",
            type=_outage,
            action="append",
            default=[],
            metavar="PROVIDER=FROM-UNTIL",
            help="this provider refuses connections between these seconds of the trace; may be given again",
        )
        parser.add_argument("--seed", type=int, default=1, metavar="S", help="of faults, jitter and mixes (1)")
        parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the ledgers here: r0.db is the chains'")
        parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw it as well; needs matplotlib")
        parser.add_argument("--json", action="store_true", help="print one JSON document")
        parser.epilog = _EPILOG

    def run(self, arguments: argparse.Namespace) -> int:
        """Replay, and print what it comes to."""
        from gearshift.core.sizing.trace import TraceError

        try:
            if arguments.plot:
                _need_matplotlib()
            calls = _calls(arguments)
            world = _world(arguments)
            _tell_unknown(world, calls)
            with _folder(arguments.keep) as folder:
                runs, is_whole = _played(arguments, world, calls, folder)
        except _WrongError as error:
            print(f"gearshift replay: {error}", file=sys.stderr)
            return 2
        except (TraceError, RouteError) as error:
            print(f"gearshift replay: {error}", file=sys.stderr)
            return 1
        except OSError as error:
            print(f"gearshift replay: {error.filename or 'this machine'}: {error.strerror}", file=sys.stderr)
            return 1
        return _told(arguments, calls, runs) if is_whole else _told(arguments, calls, runs) or _INTERRUPTED


COMMAND = ReplayCommand()


class _WrongError(Exception):
    """Raised when the arguments do not fit together; says what to change."""


def _calls(arguments: argparse.Namespace) -> list[Call]:
    from gearshift.server.replay.trace import read_calls
    from gearshift.server.replay.workload import mixed, timed

    calls = read_calls(arguments.trace, arguments.task)
    if arguments.mix:
        calls = mixed(calls, arguments.mix, arguments.limit or len(calls), arguments.seed)
    calls = calls[: arguments.limit]
    if arguments.arrivals:
        calls = timed(calls, [each.at for each in read_calls(arguments.arrivals)])
    return calls


def _world(arguments: argparse.Namespace) -> World:
    from gearshift.core.catalogue import Catalogue
    from gearshift.core.config.load import load_config
    from gearshift.server.replay.world import AnyKey, Outage, world_of
    from gearshift.server.simulator import load_plan

    plan = load_plan(arguments.plan) if arguments.plan else None
    return world_of(
        load_config(arguments.chains, AnyKey()),
        Catalogue.load(),
        plan=plan,
        fault_rate=arguments.fault_rate,
        outages=[Outage(provider=name, begins=begins, ends=ends) for name, begins, ends in arguments.outage],
        seed=arguments.seed,
    )


def _tell_unknown(world: World, calls: Sequence[Call]) -> None:
    """Say which recorded answers cannot be given, since no chain has their model."""
    from gearshift.server.replay.names import Names

    unknown = {name for call in calls for name in call.answers} - Names(world.blueprint).known()
    if unknown:
        _say(f"no chain has {', '.join(sorted(unknown))}: these answers are not used")


def _played(arguments: argparse.Namespace, world: World, calls: Sequence[Call], folder: Path) -> tuple[list[Run], bool]:
    """Play; tells whether it came to its end."""
    import anyio

    from gearshift.server.replay.driver import replay
    from gearshift.server.status import lone

    baselines = [name for name in arguments.baseline or ["last"] if name != "none"]
    names = list(dict.fromkeys(("chains", *baselines)))
    bar = _Bar()

    async def play() -> tuple[list[Run], bool]:
        stop = anyio.Event()
        found: list[Run] = []
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:

            async def heed() -> None:
                async for _ in signals:
                    stop.set()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(heed)
                found = await replay(world, calls, names, folder, speed=arguments.speed, progress=bar.show, stop=stop)
                tasks.cancel_scope.cancel()
        return found, not stop.is_set()

    try:
        with _quiet():
            return anyio.run(play, backend_options={"use_uvloop": True})
    except BaseExceptionGroup as group:
        raise lone(group) from None
    finally:
        bar.clear()


def _told(arguments: argparse.Namespace, calls: Sequence[Call], runs: Sequence[Run]) -> int:
    """Print what there is; gives the exit code."""
    from gearshift.server.replay.report import as_document, as_text, percentile, tabulated

    table = tabulated(runs)
    ended = min(len(run.ended) for run in runs)
    lags = sorted(each.lag_s for run in runs for each in run.ended)
    lag = percentile(lags, 0.99) or 0.0
    if arguments.json:
        document: dict[str, object] = {
            "trace": str(arguments.trace),
            "calls": len(calls),
            "ended": ended,
            "speed": arguments.speed,
            "seed": arguments.seed,
            "fault_rate": arguments.fault_rate,
            "sent_late_p99_s": lag,
            "answered_as_recorded": {run.name: run.recorded for run in runs},
            **as_document(table),
        }
        print(json.dumps(document, indent=2))
    elif ended:
        print(as_text(table))
    errors: dict[str, int] = {}
    for run in runs:
        for each in run.ended:
            if each.error:
                errors[f"{run.name}: {each.error}"] = errors.get(f"{run.name}: {each.error}", 0) + 1
    if not arguments.json:
        for error, count in sorted(errors.items(), key=lambda item: -item[1])[:5]:
            _say(f"{count} failed, {error}")
    if ended < len(calls):
        _say(f"stopped after {ended} of {len(calls)} calls")
    if strange := sum(run.strange for run in runs):
        _say(f"{strange} requests reached a provider with another prompt than the trace's: they got made-up answers")
    if lag > _LATE_S:
        _say(
            f"one call in a hundred was sent {lag:.2f} s late: this machine is too slow for --speed {arguments.speed:g}"
        )
    if arguments.plot and ended:
        from gearshift.server.replay.plot import plot

        try:
            plot(arguments.plot, table)
        except OSError as error:
            _say(f"{error.filename}: {error.strerror}")
            return 1
        _say(f"drawn: {arguments.plot}")
    return 0


def _say(text: str) -> None:
    print(f"gearshift replay: {text}", file=sys.stderr)


class _Bar:
    """A bar on a terminal that is written over; nothing where standard error is none."""

    _WIDTH = 30

    def __init__(self) -> None:
        self._is_on = sys.stderr.isatty()
        self._began = time.monotonic()
        self._shown = 0.0

    def show(self, done: int, total: int) -> None:
        """Show how far it is, at most ten times a second."""
        now = time.monotonic()
        if not self._is_on or (now - self._shown < 0.1 and done < total):
            return
        self._shown = now
        full = self._WIDTH * done // max(1, total)
        left = (now - self._began) * (total - done) / max(1, done)
        sys.stderr.write(
            f"\r\x1b[K[{'#' * full}{'.' * (self._WIDTH - full)}] {done:,} of {total:,} calls, {left:.0f} s left"
        )
        sys.stderr.flush()

    def clear(self) -> None:
        """Leave nothing behind."""
        if self._is_on:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


@contextmanager
def _folder(kept: Path | None) -> Generator[Path]:
    """Give a folder for the ledgers.

    Raises:
        _WrongError: there are ledgers in it already.
    """
    if kept is None:
        with tempfile.TemporaryDirectory(prefix="gearshift-replay-") as made:
            yield Path(made)
        return
    kept.mkdir(parents=True, exist_ok=True)
    if any(kept.glob("r*.db")):
        raise _WrongError(f"--keep: there are ledgers in {kept} already")
    yield kept


@contextmanager
def _quiet() -> Generator[None]:
    """Keep the service's own warnings off the terminal: they are of a configuration that was changed here."""
    logger = logging.getLogger("gearshift")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _need_matplotlib() -> None:
    import importlib.util

    if importlib.util.find_spec("matplotlib") is None:
        raise _WrongError("--plot needs matplotlib, which is not installed: pip install 'gearshift[plot]'")


def _above(text: str) -> float:
    if not 0 < (found := _number(text)) <= 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0, such as 10")
    return found


def _whole(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def _share(text: str) -> float:
    if not 0 <= (found := _number(text)) <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share such as 0.02")
    return found


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _outage(text: str) -> tuple[str, float, float]:
    name, equals, times = text.rpartition("=")
    begins, dash, ends = times.partition("-")
    try:
        found = name.strip(), float(begins), float(ends)
    except ValueError:
        found = "", 0.0, 0.0
    if not (equals and dash and found[0] and 0 <= found[1] < found[2] < 1e9):
        raise argparse.ArgumentTypeError(f"{text!r} is not like anthropic=60-120")
    return found


def _mix(text: str) -> Mapping[str, float]:
    found: dict[str, float] = {}
    for part in text.split(","):
        task, equals, share = part.partition("=")
        try:
            value = float(share)
        except ValueError:
            value = -1.0
        if not equals or not task.strip() or not 0 <= value < 1e9:
            raise argparse.ArgumentTypeError(f"{part!r} is not like classify=70")
        found[task.strip()] = value
    return found
