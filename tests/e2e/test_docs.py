"""The pages for people say what the code has: names, commands, settings, metrics, dependencies, links."""

from __future__ import annotations

import argparse
import ast
import importlib
import re
import shlex
import tomllib
from collections.abc import Iterator
from functools import cache
from itertools import dropwhile, takewhile
from pathlib import Path

import pytest
import yaml
from msgspec import Struct, inspect

from gearshift.clients.cli.command import OWN, other_commands
from gearshift.clients.cli.program import new_parser
from gearshift.core.answer import Completion, Verdict
from gearshift.core.cache.answers import AnswerCache
from gearshift.core.cache.manage import Caches
from gearshift.core.cache.store import MemoryStore
from gearshift.core.cache.vectors import VectorCache
from gearshift.core.config.load import parse_config
from gearshift.core.config.model import CachingConfig, Config
from gearshift.core.observer import CallContext
from gearshift.core.promptcache import PromptCache
from gearshift.core.words import Outcome, VerdictResult
from gearshift.server.metrics import Metrics
from gearshift.server.status import CODES
from gearshift.v1 import ops_pb2, router_pb2
from tests.support.ledger_rows import attempt, resolution
from tests.support.page_blocks import blocks_of, typed

ROOT = Path(__file__).parents[2]
README, DEPENDENCIES, OPERATIONS = ROOT / "README.md", ROOT / "docs/dependencies.md", ROOT / "docs/operations.md"
CONTRACT = ROOT / "docs/contract.md"
PAGES = [README, ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
CHECKED = [
    README,
    ROOT / "CHANGELOG.md",
    ROOT / "docs/architecture.md",
    ROOT / "docs/third-party.md",
    OPERATIONS,
    CONTRACT,
    DEPENDENCIES,
]
"""Pages whose names in backquotes are checked; the others are their authors' own."""

SOURCE_ROOTS = ("core", "server", "clients", "protos", "bench", "tests")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
FILE = re.compile(r"[\w.<>-]+(/[\w.<>-]+)*\.(py|pyi|md|yaml|proto|toml|json|jsonl\.gz|tsv|sql)|[\w.-]+(/[\w.-]+)+/?")
METRIC = re.compile(r"gearshift_\w+")
ASSIGNED = re.compile(r"[A-Z_]+=")
PIPES = frozenset({"|", ">", "&&", ";"})

OUTSIDE = frozenset(
    {
        # Of the reader's machine, not of the repository.
        "gearshift.yaml",
        ".venv/bin",
        "--help",
        "gearshift --help",
        "gearshift.X",
        "gearshift/ledger.db",
        "/healthz",
        "google.rpc",
        "google.rpc.ErrorInfo",
        "google.rpc.Status",
        "grpc.health.v1.Health",
        "gearshift/__init__.py",  # named because it must not be there
        "Makefile",
        "Backend",  # of the design, which the page compares the code with
        "REPOSITORY",
        "BadRequest",
        "RetryInfo",
        "QuotaFailure",
        "cp",
        "sha256sum",
        "python -m grpc_tools.protoc",
        "~/.local/state",
    }
)

IMPORTED_AS = {
    "google-re2": "re2",
    "googleapis-common-protos": "google.rpc",
    "grpcio": "grpc",
    "grpcio-channelz": "grpc_channelz",
    "grpcio-health-checking": "grpc_health",
    "grpcio-reflection": "grpc_reflection",
    "grpcio-status": "grpc_status",
    "grpcio-tools": "grpc_tools",
    "prometheus-client": "prometheus_client",
    "protobuf": "google.protobuf",
    "pytest-asyncio": "pytest_asyncio",
    "pyyaml": "yaml",
    "scikit-learn": "sklearn",
    "opentelemetry-sdk": "opentelemetry.sdk",
    "opentelemetry-exporter-otlp-proto-grpc": "opentelemetry.exporter.otlp.proto.grpc",
    "opentelemetry-exporter-otlp-proto-http": "opentelemetry.exporter.otlp.proto.http",
}


@cache
def files() -> tuple[str, ...]:
    """Every file of the repository that pages may name, from its root."""
    folders = (*SOURCE_ROOTS, "docs", "deploy", ".ci")
    found = [path for folder in folders for path in (ROOT / folder).rglob("*") if "__pycache__" not in path.parts]
    return tuple(str(path.relative_to(ROOT)) for path in (*found, *ROOT.glob("*")))


@cache
def source() -> str:
    """All that is written in the code, the contract and the build."""
    suffixes = (".py", ".proto", ".toml", ".yaml", ".json", ".sql")
    paths = [
        name for name in files() if name.endswith(suffixes) and "_pb2" not in name and not name.startswith("tests")
    ]
    texts = [(ROOT / name).read_text("utf-8") for name in paths]
    return "\n".join([*texts, (ROOT / "Makefile").read_text("utf-8")])


@cache
def words() -> frozenset[str]:
    """Every identifier of the source."""
    return frozenset(re.findall(r"[A-Za-z_]\w*", source()))


@cache
def settings() -> frozenset[str]:
    """Every setting by its path, with `<name>` and `[]` as docs/configuration.md writes them."""
    found: set[str] = set()

    def walk(kind: inspect.Type, path: str) -> None:
        if isinstance(kind, inspect.UnionType):
            for each in kind.types:
                walk(each, path)
        elif isinstance(kind, inspect.Metadata):
            walk(kind.type, path)
        elif isinstance(kind, inspect.DictType):
            walk(kind.value_type, f"{path}.<name>")
        elif isinstance(kind, inspect.ListType | inspect.VarTupleType):
            walk(kind.item_type, f"{path}[]")
        elif isinstance(kind, inspect.StructType):
            for field in kind.fields:
                below = f"{path}.{field.encode_name}".removeprefix(".")
                found.add(below)
                walk(field.type, below)

    walk(inspect.type_info(Config), "")
    return frozenset(found)


def commands() -> Iterator[tuple[str, str]]:
    """Give every `gearshift …` of a console block, up to a pipe: its place and itself."""
    for page in PAGES:
        for block in blocks_of(page, ROOT):
            for each in typed(block.body) if block.language == "console" else ():
                words = list(dropwhile(ASSIGNED.match, shlex.split(each.command.replace("\\\n", " "))))
                if words[:1] == ["gearshift"]:
                    yield block.place, shlex.join(takewhile(lambda word: word not in PIPES, words))


def configurations() -> Iterator[tuple[str, str]]:
    """Give every block of YAML that is a configuration or sections of one: its place and itself."""
    for page in PAGES:
        for block in blocks_of(page, ROOT):
            whole: object = yaml.safe_load(block.body) if block.language == "yaml" else None
            if isinstance(whole, dict) and whole.keys() <= set(Config.__struct_fields__):
                yield block.place, block.body


def parses(command: str) -> bool:
    """Tell whether the command line takes it."""
    parts = shlex.split(command)[1:]
    try:
        new_parser(parts).parse_args(parts)
    except (SystemExit, argparse.ArgumentError):
        return False
    return True


def is_known(name: str) -> bool:
    """Tell whether what stands in backquotes is in the repository; what is no name is taken as it is."""
    if name in OUTSIDE or name.startswith(
        ("http", "pip install", "unix:", "gs_", "authorization", "$", "sqlite3 ", "**")
    ):
        return True
    if name.startswith("gearshift "):
        parts = shlex.split(name)
        return parts[1] in (*OWN, *other_commands()) and (
            len(parts) == 2 or not parts[2].startswith("-") or parses(name)
        )
    if name.startswith("make "):
        return bool(re.search(rf"^{name.removeprefix('make ')}:", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    if name.startswith("python "):
        return (ROOT / name.split()[1]).is_file()
    if METRIC.fullmatch(name):
        return name in exposed()
    if name.startswith("--"):
        return f'"{name.split()[0]}"' in source()
    setting = name.partition(":")[0].strip()
    if setting in settings() or setting in words():
        return True
    if re.fullmatch(r"gearshift(\.\w+)+", name):
        return is_importable(name) or f'"{name}"' in source() or f'"{name}' in source()
    if FILE.fullmatch(name.rstrip("/")):
        wanted = name.rstrip("/")
        return any(each == wanted or each.endswith(f"/{wanted}") for each in files()) or wanted in source()
    if "." in setting and setting.partition(".")[0] in Config.__struct_fields__:
        return False
    if re.fullmatch(r"[A-Za-z_]\w*(\.\w+)*", name):
        return all(part in words() for part in name.split("."))
    return True


def is_importable(name: str) -> bool:
    """Tell whether a dotted name is a module or something in one."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            value: object = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[cut:]:
            value = getattr(value, attribute, None)
        return value is not None
    return False


@cache
def exposed() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Every metric by its name on the wire: kind and labels, as they are after a call that has something of everything."""
    metrics = Metrics()
    served, verdict = attempt(), Verdict(gate="labels", result=VerdictResult.PASS)
    metrics.call_ended(
        CallContext(request_id="r", resolution=resolution(), chain="classify", stream=False, revision=""),
        Completion(
            outcome=Outcome.ACCEPTED,
            served_by=served.stage,
            confidence=0.9,
            verdicts=(verdict,),
            attempts=(served, attempt(2, cost_usd=None)),
        ),
        "",
    )
    nothing = MemoryStore(0)
    caches = Caches(PromptCache(CachingConfig()), AnswerCache(nothing), VectorCache(nothing, 1.0))
    metrics.caches(lambda: caches)
    assert metrics.exposition()  # counts the call
    found: dict[str, tuple[str, tuple[str, ...]]] = {}
    for family in metrics.registry.collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        found[name] = (family.type, tuple(label for label in family.samples[0].labels if label != "le"))
    wired = (ROOT / "server/gearshift/server/app.py").read_text("utf-8")
    gauges = re.findall(r'metrics\.gauge\(\s*"(\w+)"', wired)
    for way, name, labels in re.findall(r'metrics\.(counts|levels)\(\s*"(\w+)",\s*"[^"]*",\s*\(([^)]*)\)', wired):
        counted = way == "counts"
        kept = tuple(re.findall(r'"(\w+)"', labels))
        found[f"{name}_total" if counted else name] = ("counter" if counted else "gauge", kept)
    for file, name, labels in (
        ("own_machines.py", r'"(gearshift_machine_\w+)"', ("provider", "account")),
        ("workers/supervisor.py", r'Sample\("(gearshift_worker_\w+)"', ("worker",)),
    ):
        for each in re.findall(name, (ROOT / "server/gearshift/server" / file).read_text("utf-8")):
            found[each] = ("counter" if each.endswith("_total") else "gauge", labels)
    return {**found, **{name: ("gauge", ()) for name in gauges}}


def rows(text: str, column: str) -> Iterator[tuple[str, str]]:
    """Give first cell and the named cell of every row of every table that has such a column."""
    index = -1
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip()[1:-1].split("|")] if line.startswith("|") else []
        if not cells:
            index = -1
        elif index < 0:
            index = cells.index(column) if column in cells else len(cells) + 99
        elif index < len(cells) and not set(cells[0]) <= set("- |"):
            yield cells[0], cells[index]


def imports(path: Path, module: str) -> bool:
    """Tell whether a file imports a module."""
    name = re.escape(module)
    parent, _, last = module.rpartition(".")
    pattern = rf"^\s*(import|from) {name}\b"
    if parent:
        pattern += rf"|^\s*from {re.escape(parent)} import .*\b{re.escape(last)}\b"
    return bool(re.search(pattern, path.read_text("utf-8"), re.MULTILINE))


def declared() -> frozenset[str]:
    """Every package that pyproject.toml names, but gearshift itself and the build's own."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    lists = [
        project["project"]["dependencies"],
        *project["project"]["optional-dependencies"].values(),
        *project["dependency-groups"].values(),
    ]
    names = {re.split(r"[\[<>=; ]", package)[0] for packages in lists for package in packages}
    return frozenset(names - {"gearshift"})


@pytest.mark.parametrize("page", CHECKED, ids=lambda page: page.name)
def test_names_in_backquotes_are_in_the_code(page: Path) -> None:
    prose = FENCE.sub("", page.read_text("utf-8"))
    packages = declared()
    missing = sorted({name for name in NAMED.findall(prose) if name not in packages and not is_known(name)})
    assert not missing


def test_files_in_the_diagram_exist() -> None:
    drawn = " ".join(body for language, body in FENCE.findall(README.read_text("utf-8")) if language == "text")
    named = set(re.findall(r"[\w/]+\.(?:py|proto)\b", drawn))
    assert named
    assert not [name for name in named if not any(each.endswith(f"/{name}") for each in files())]


@pytest.mark.parametrize(("place", "command"), [pytest.param(*each, id=each[1][:60]) for each in commands()])
def test_commands_of_the_pages_parse(place: str, command: str) -> None:
    assert parses(command), place


@pytest.mark.parametrize(("place", "text"), [pytest.param(*each, id=each[0]) for each in configurations()])
def test_configurations_of_the_pages_have_only_fields_that_there_are(place: str, text: str) -> None:
    text = text.replace("stages: …", "stages: [{provider: p, model: m}]")
    parse_config(text, dict.fromkeys(re.findall(r"\$\{(\w+)\}", text), "x"), place)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_resolve(page: Path) -> None:
    broken: list[str] = []
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page.read_text("utf-8"))):
        path, _, anchor = target.partition("#")
        if "://" in target:
            continue
        other = (page.parent / path).resolve() if path else page
        if not other.exists() or (anchor and anchor not in anchors(other)):
            broken.append(target)
    assert not broken


def anchors(page: Path) -> frozenset[str]:
    """Give what a link may name in a page: its headings, as GitHub writes them, and its own anchors."""
    text = page.read_text("utf-8")
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", text), re.MULTILINE)
    slugs = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
    return frozenset([*slugs, *re.findall(r'<a id="([^"]+)">', text)])


@pytest.mark.parametrize("page", CHECKED, ids=lambda page: page.name)
def test_python_of_the_pages_compiles_and_its_imports_exist(page: Path) -> None:
    for language, body in FENCE.findall(page.read_text("utf-8")):
        if language != "python":
            continue
        compile(body, page.name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        for node in ast.walk(ast.parse(body)):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("gearshift"):
                for name in node.names:
                    assert is_importable(f"{node.module}.{name.name}"), name.name


def test_the_readme_has_every_section_of_the_configuration() -> None:
    named = {cell.strip("`") for cell, _ in rows(README.read_text("utf-8"), "says")}
    assert issubclass(Config, Struct)
    assert named == {field for field in Config.__struct_fields__ if field != "version"}


def test_every_metric_stands_in_operations_with_its_labels() -> None:
    text = OPERATIONS.read_text("utf-8")
    kinds = {name.strip("`"): kind for name, kind in rows(text, "type")}
    labels = {name.strip("`"): cell for name, cell in rows(text, "labels")}
    told = {name: (kinds[name], tuple(filter(None, labels[name].split(", ")))) for name in labels}
    assert told == exposed()


def test_every_method_is_called_on_the_page_of_grpcurl() -> None:
    page = (ROOT / "docs/grpcurl.md").read_text("utf-8")
    services = [*router_pb2.DESCRIPTOR.services_by_name.values(), *ops_pb2.DESCRIPTOR.services_by_name.values()]
    paths = [f"{service.full_name}/{method.name}" for service in services for method in service.methods]
    assert len(paths) >= 17
    assert not [path for path in paths if not re.search(rf"127\.0\.0\.1:50051 {path}\b", page)]


def test_every_error_stands_in_the_contract_with_its_code() -> None:
    told = {
        (code, reason)
        for code, reasons in rows(CONTRACT.read_text("utf-8"), "reason")
        for reason in reasons.split(", ")
        if reason  # what gRPC refuses by itself, and a fault of ours, have none
    }
    assert told == {(code.name, error.reason) for error, code in CODES.items() if error.__name__ != "RouteError"}


def test_every_dependency_has_its_row() -> None:
    cells = " ".join(cell for cell, _ in rows(DEPENDENCIES.read_text("utf-8"), "imported in"))
    assert frozenset(NAMED.findall(cells)) == declared()


@pytest.mark.parametrize(
    ("package", "cell"),
    [
        pytest.param(name, cell, id=f"{number} {name}")
        for number, (names, cell) in enumerate(rows(DEPENDENCIES.read_text("utf-8"), "imported in"))
        for name in NAMED.findall(names)
    ],
)
def test_dependencies_are_imported_where_the_page_says(package: str, cell: str) -> None:
    module = IMPORTED_AS.get(package, package.replace("-", "_"))
    if cell.startswith(("no module", "nothing imports it")):
        code = [
            ROOT / name for name in files() if name.endswith(".py") and name.startswith(("core", "server", "clients"))
        ]
        assert not [path for path in code if imports(path, module)]
        return
    named = [name for name in NAMED.findall(cell) if name.endswith(".py")]
    assert named
    assert not [name for name in named if not imports(ROOT / name, module)]
