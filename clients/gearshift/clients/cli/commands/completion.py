"""`gearshift completion`: a completion script for a shell.

Rules: written from the parsers themselves, so that it cannot lag behind; a script holds only words and does not call
gearshift.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, cast

from gearshift.clients.cli.command import SHELL
from gearshift.clients.cli.exits import OK

name: Final = "completion"
help: Final = SHELL[name]

_EPILOG: Final = """\
examples:
  source <(gearshift completion bash)                                  # in ~/.bashrc
  source <(gearshift completion zsh)                                   # in ~/.zshrc, after compinit
  gearshift completion fish > ~/.config/fish/completions/gearshift.fish"""

_FILES: Final = ("FILE", "PATH")


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """An option of a command: its spellings, what it does, and what may follow it."""

    names: tuple[str, ...]
    help: str
    takes_value: bool
    takes_file: bool
    choices: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A command: the words that lead to it, its options, and what may follow."""

    path: tuple[str, ...]
    help: str
    flags: tuple[Flag, ...]
    words: tuple[str, ...]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add its arguments."""
    parser.epilog = _EPILOG
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell to write for")


def run(arguments: argparse.Namespace) -> int:
    """Print the script."""
    from gearshift.clients.cli.program import new_parser

    nodes = list(walk(new_parser([], everything=True)))
    write = {"bash": bash, "zsh": zsh, "fish": fish}[arguments.shell]
    print(write(nodes))
    return OK


def walk(parser: argparse.ArgumentParser, path: tuple[str, ...] = (), text: str = "") -> Iterator[Node]:
    """Give every command under parser, outermost first."""
    flags: list[Flag] = []
    words: list[str] = []
    below: list[tuple[str, argparse.ArgumentParser, str]] = []
    for action in cast("list[argparse.Action]", cast(Any, parser)._actions):
        if isinstance(action, cast(Any, argparse)._SubParsersAction):
            children = cast("dict[str, argparse.ArgumentParser]", action.choices)
            helps = {choice.dest: choice.help for choice in cast(Any, action)._choices_actions}
            below += [(word, child, helps.get(word) or "") for word, child in children.items()]
            words += children
        elif action.option_strings:
            flags.append(
                Flag(
                    names=tuple(action.option_strings),
                    help=action.help or "",
                    takes_value=action.nargs != 0,
                    takes_file=action.metavar in _FILES,
                    choices=tuple(str(choice) for choice in action.choices or ()),
                )
            )
        else:
            words += [str(choice) for choice in action.choices or ()]
    yield Node(path=path, help=text, flags=tuple(flags), words=tuple(words))
    for word, child, child_text in below:
        yield from walk(child, (*path, word), child_text)


def bash(nodes: list[Node]) -> str:
    """Write for bash."""
    steps = [
        f'      "{" ".join(node.path[:-1])}/{node.path[-1]}") path="{" ".join(node.path)}" ;;' for node in nodes[1:]
    ]
    values: list[str] = []
    words: list[str] = []
    for node in nodes:
        path = " ".join(node.path)
        for flag in node.flags:
            patterns = " | ".join(f'"{path}/{spelling}"' for spelling in flag.names)
            if flag.choices:
                values.append(
                    f'    {patterns}) COMPREPLY=($(compgen -W "{" ".join(flag.choices)}" -- "$cur")); return ;;'
                )
            elif flag.takes_file:
                values.append(f'    {patterns}) COMPREPLY=($(compgen -f -- "$cur")); return ;;')
            elif flag.takes_value:
                values.append(f"    {patterns}) COMPREPLY=(); return ;;")
        spellings = [spelling for flag in node.flags for spelling in flag.names]
        words.append(f'    "{path}") words="{" ".join((*node.words, *spellings))}" ;;')
    return "\n".join(
        (
            "_gearshift() {",
            '  local cur="${COMP_WORDS[COMP_CWORD]}" prev="${COMP_WORDS[COMP_CWORD-1]}" path="" words="" i',
            "  for ((i = 1; i < COMP_CWORD; i++)); do",
            '    case "$path/${COMP_WORDS[i]}" in',
            *steps,
            "    esac",
            "  done",
            '  case "$path/$prev" in',
            *values,
            "  esac",
            '  case "$path" in',
            *words,
            "  esac",
            '  COMPREPLY=($(compgen -W "$words" -- "$cur"))',
            "}",
            "complete -F _gearshift gearshift",
        )
    )


def zsh(nodes: list[Node]) -> str:
    """Write for zsh, which reads bash's by its own bashcompinit."""
    return "autoload -U +X bashcompinit && bashcompinit\n" + bash(nodes)


def fish(nodes: list[Node]) -> str:
    """Write for fish."""
    lines = ["complete -c gearshift -f"]
    helps = {node.path: node.help for node in nodes}
    for node in nodes:
        seen = "; and ".join(f"__fish_seen_subcommand_from {word}" for word in node.path)
        for word in node.words:
            below = " ".join(other for other in node.words)
            condition = (f"{seen}; and " if seen else "") + f"not __fish_seen_subcommand_from {below}"
            text = _quoted(helps.get((*node.path, word), ""))
            lines.append(f"complete -c gearshift -n '{condition}' -a {word} -d {text}")
        for flag in node.flags:
            parts = [f"-n '{seen}'"] if seen else ["-n __fish_use_subcommand"]
            parts += [f"-l {one[2:]}" if one.startswith("--") else f"-s {one[1:]}" for one in flag.names]
            if flag.choices:
                parts.append(f"-x -a {_quoted(' '.join(flag.choices))}")
            elif flag.takes_file:
                parts.append("-r -F")
            elif flag.takes_value:
                parts.append("-x")
            lines.append(f"complete -c gearshift {' '.join(parts)} -d {_quoted(flag.help)}")
    return "\n".join(lines)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
