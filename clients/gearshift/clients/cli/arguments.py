"""The arguments that commands share, and what is made of them.

Rules: configuring a parser imports nothing of grpc, so that help is fast. A key comes from the environment, never from
the command line, where other users could read it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gearshift.clients.cli.exits import UsageError

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from gearshift.clients import Context
    from gearshift.clients.sync import Client
    from gearshift.v1 import call_pb2

DEFAULT_TARGET: Final = "127.0.0.1:50051"
DEFAULT_KEY_ENV: Final = "GEARSHIFT_API_KEY"
_PLACE: Final = "{{name}}"


def add_connection(parser: argparse.ArgumentParser) -> None:
    """Add where the server is, how it is believed, and how results are shown."""
    group = parser.add_argument_group("connection and output")
    target = os.environ.get("GEARSHIFT_TARGET") or DEFAULT_TARGET
    group.add_argument(
        "--target", default=target, metavar="ADDRESS", help="the server (default: $GEARSHIFT_TARGET or 127.0.0.1:50051)"
    )
    group.add_argument(
        "--api-key-env", metavar="NAME", help=f"the environment variable with the API key (default: {DEFAULT_KEY_ENV})"
    )
    group.add_argument("--tls", action="store_true", help="speak TLS and believe the system's roots")
    group.add_argument("--tls-ca", metavar="FILE", help="speak TLS and believe the roots in this PEM file")
    group.add_argument("--tls-cert", metavar="FILE", help="the client's certificate for mTLS; needs --tls-key")
    group.add_argument("--tls-key", metavar="FILE", help="the client's private key for mTLS")
    group.add_argument("--plaintext-key", action="store_true", help="allow the API key to cross a network without TLS")
    group.add_argument("--timeout", type=_seconds, metavar="SECONDS", help="the deadline of the call (default: 300)")
    group.add_argument("--json", action="store_true", help="print JSON instead of text")


def add_call(parser: argparse.ArgumentParser) -> None:
    """Add everything that makes a call."""
    parser.usage = f"{parser.prog} [options] [PROMPT]"
    parser.add_argument("prompt", nargs="?", help="what to ask; '-' or nothing reads standard input")
    prompt = parser.add_argument_group("prompt")
    prompt.add_argument("--file", metavar="FILE", help="read the prompt from a file")
    prompt.add_argument("--system", metavar="TEXT", help=f"the static instructions; {_PLACE} marks a variable")
    prompt.add_argument("--system-file", metavar="FILE", help="read the instructions from a file")
    prompt.add_argument("--var", action="append", default=[], metavar="K=V", help="the value of a variable; repeatable")

    task = parser.add_argument_group("task")
    task.add_argument("--task", default="cli", metavar="ID", help="the id that cost is attributed to (default: cli)")
    task.add_argument("--type", choices=("classify", "extract", "generate", "reason"), help="what kind of work it is")
    task.add_argument("--complexity", choices=("low", "medium", "high"), help="the capability that a model must have")
    task.add_argument(
        "--sensitivity", choices=("public", "internal", "restricted"), help="the clearance that a provider must have"
    )

    output = parser.add_argument_group("answer")
    output.add_argument("--label", action="append", default=[], metavar="LABEL", help="a label to choose; repeatable")
    output.add_argument(
        "--example", action="append", default=[], metavar="TEXT=LABEL", help="a worked example; repeatable"
    )
    output.add_argument("--schema", metavar="FILE", help="answer with JSON that fits this JSON Schema")
    output.add_argument("--max-tokens", type=int, metavar="N", help="the most tokens to write")
    output.add_argument("--temperature", type=float, metavar="X", help="0 to 2")
    output.add_argument("--seed", type=int, metavar="N", help="repeatable sampling, where the model can")

    policy = parser.add_argument_group("policy")
    policy.add_argument("--require-valid", action="store_true", help="fail when no answer passes its gates")
    policy.add_argument("--max-cost", metavar="USD", help="the most to spend, such as 0.02")
    policy.add_argument("--max-attempts", type=int, metavar="N", help="the most upstream calls")
    policy.add_argument("--model", action="append", default=[], metavar="ID", help="only this model; repeatable")
    policy.add_argument("--provider", action="append", default=[], metavar="NAME", help="only this one; repeatable")
    policy.add_argument("--no-cache", action="store_true", help="neither read nor write the response cache")
    policy.add_argument("--request-id", default="", metavar="ID", help="a repeat returns the same result")


def call_from(arguments: argparse.Namespace) -> call_pb2.Call:
    """Build the call.

    Raises:
        UsageError: an argument cannot be read, or two exclude each other.

    """
    from gearshift.clients.calls import call

    try:
        return call(
            arguments.task,
            prompt_from(arguments),
            task_type=arguments.type,
            complexity=arguments.complexity,
            sensitivity=arguments.sensitivity,
            system=_system(arguments),
            variables=dict(_pair(item, "--var", "K=V") for item in arguments.var),
            labels=arguments.label or None,
            schema=_schema(arguments.schema),
            examples=[_example(item, is_label=not arguments.schema) for item in arguments.example],
            max_tokens=arguments.max_tokens,
            temperature=arguments.temperature,
            seed=arguments.seed,
            require_valid=arguments.require_valid,
            max_cost_usd=arguments.max_cost,
            max_attempts=arguments.max_attempts,
            allowed_models=arguments.model,
            allowed_providers=arguments.provider,
            no_cache=arguments.no_cache,
            request_id=arguments.request_id,
        )
    except ValueError as error:
        raise UsageError(str(error)) from error


def prompt_from(arguments: argparse.Namespace) -> str:
    """Read the prompt from its argument, its file or standard input."""
    if arguments.file and arguments.prompt is not None:
        raise UsageError("give the prompt or --file, not both")
    if arguments.file:
        return read_text(arguments.file)
    if arguments.prompt not in (None, "-"):
        return str(arguments.prompt)
    if arguments.prompt is None and sys.stdin.isatty():
        raise UsageError("a prompt is needed: as an argument, with --file, or on standard input")
    return read_standard_input()


def read_text(path: str) -> str:
    """Read a UTF-8 file, or say why not."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error


def read_standard_input() -> str:
    """Read UTF-8 from standard input, or say why not."""
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise UsageError(f"standard input is not UTF-8: {error}") from error


def client_from(arguments: argparse.Namespace) -> Client:
    """Make the client; nothing is connected yet.

    Raises:
        UsageError: a file or a key is missing, or a key would cross a network in the clear.

    """
    from gearshift.clients.options import Option, with_api_key, with_tls
    from gearshift.clients.sync import dial

    options: list[Option] = []
    try:
        if arguments.tls or arguments.tls_ca or arguments.tls_cert:
            options.append(with_tls(ca=arguments.tls_ca, certificate=arguments.tls_cert, key=arguments.tls_key))
        if key := _api_key(arguments.api_key_env):
            options.append(with_api_key(key, plaintext=arguments.plaintext_key))
        return dial(arguments.target, *options)
    except OSError as error:
        raise UsageError(f"cannot read {error.filename}: {error.strerror}") from error
    except ValueError as error:
        hint = "; on the command line: --tls, --tls-ca or --plaintext-key" if "in the clear" in str(error) else ""
        raise UsageError(f"{error}{hint}") from error


def context_from(arguments: argparse.Namespace) -> Context:
    """Make the context of the call."""
    from gearshift.clients.context import background

    return background() if arguments.timeout is None else background().with_timeout(arguments.timeout)


def print_json(message: Message, *, indent: int | None = 2) -> None:
    """Print a message as one JSON document, with the names of the contract."""
    from google.protobuf.json_format import MessageToDict

    document = MessageToDict(message, preserving_proto_field_name=True)
    print(json.dumps(document, ensure_ascii=False, indent=indent), flush=True)


def _api_key(name: str | None) -> str:
    key = os.environ.get(name or DEFAULT_KEY_ENV, "").strip()
    if name and not key:
        raise UsageError(f"the environment variable {name} is not set")
    return key


def _system(arguments: argparse.Namespace) -> str | None:
    if arguments.system is not None and arguments.system_file:
        raise UsageError("give --system or --system-file, not both")
    text: str | None = arguments.system
    return read_text(arguments.system_file) if arguments.system_file else text


def _schema(path: str | None) -> str | None:
    if path is None:
        return None
    text = read_text(path)
    try:
        json.loads(text)
    except ValueError as error:
        raise UsageError(f"{path} is not JSON: {error}") from error
    return text


def _example(item: str, *, is_label: bool) -> tuple[str, str]:
    """Split an example: at the last `=` for a label, at the first for a document."""
    text, equals, answer = item.rpartition("=") if is_label else item.partition("=")
    if not equals:
        raise UsageError(f"--example {item!r} is not TEXT=LABEL (or TEXT=JSON with --schema)")
    return text, answer


def _pair(item: str, option: str, form: str) -> tuple[str, str]:
    name, equals, value = item.partition("=")
    if not equals:
        raise UsageError(f"{option} {item!r} is not {form}")
    return name, value


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not value > 0:
        raise argparse.ArgumentTypeError(f"must be seconds, above 0, not {text!r}")
    return value
