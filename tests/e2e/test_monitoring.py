"""Alert rules and the dashboard ask for metrics that exist, and the runbook has an entry that works for each alert."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

import gearshift.core.errors as errors_module
from gearshift.core.errors import RouteError
from gearshift.core.words import AttemptCause, AttemptOutcome, FailureKind, Outcome, VerdictResult
from tests.support.openai_bodies import openai_answer
from tests.support.promql_names import groupings, parsed, selected
from tests.support.running_server import plain_call, running_server
from tests.support.scripted_server import Reply, scripted
from tests.support.served_config import of_openai

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "deploy/prometheus/alerts.yaml"
UNIT_TESTS = ROOT / "deploy/prometheus/alerts_test.yaml"
DASHBOARD = ROOT / "deploy/grafana/gearshift.json"
OPERATIONS = ROOT / "docs/operations.md"
BOUND_S = 20.0

TARGET = frozenset({"job", "instance"})
"""What Prometheus itself puts on every series."""
ROW = re.compile(r"^\| `(gearshift_\w+)` \| (\w+) \|([\w, ]*)\|", re.MULTILINE)
WORDS: dict[tuple[str, str], frozenset[str]] = {
    ("gearshift_attempts_total", "failure"): frozenset(each.word for each in FailureKind),
    ("gearshift_attempts_total", "outcome"): frozenset(each.word for each in AttemptOutcome),
    ("gearshift_attempts_total", "cause"): frozenset(each.word for each in AttemptCause),
    ("gearshift_verdicts_total", "result"): frozenset(each.word for each in VerdictResult),
    ("gearshift_budget_left_usd", "period"): frozenset({"day", "month"}),
    ("gearshift_calls_total", "outcome"): frozenset(
        {each.word for each in Outcome}
        | {
            each.reason.lower()
            for each in vars(errors_module).values()
            if isinstance(each, type) and issubclass(each, RouteError)
        }
        | {"cancelled"}
    ),
}
"""Values that a label may have, where they are words."""


def table() -> list[tuple[str, str, str]]:
    """Give name, kind and labels of every metric."""
    return ROW.findall(OPERATIONS.read_text())


@cache
def series() -> dict[str, frozenset[str]]:
    """Give every series and its labels, from the table that tests/e2e/test_docs.py compares with the service's metrics."""
    found: dict[str, frozenset[str]] = {"up": TARGET}
    for name, kind, labels in table():
        own = frozenset(re.findall(r"\w+", labels)) | TARGET
        if kind == "histogram":
            found |= {f"{name}_sum": own, f"{name}_count": own, f"{name}_bucket": own | {"le"}}
        else:
            found[name] = own
    return found


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def targets() -> list[tuple[str, str, str]]:
    """Give title, expression and legend of every query of the dashboard."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [
        (panel["title"], target["expr"], target["legendFormat"])
        for panel in panels
        for target in panel.get("targets", ())
    ]


def faults(expression: str) -> list[str]:
    """Tell what an expression asks for in vain."""
    read, found = parsed(expression), list[str]()
    for each in selected(read):
        if each.metric not in series():
            found.append(f"there is no {each.metric}")
            continue
        for label, operator, value in each.matchers:
            if label not in series()[each.metric]:
                found.append(f"{each.metric} has no label {label}")
            known = WORDS.get((each.metric, label))
            values = value.split("|") if operator in ("=~", "!~") else [value]
            if known is not None and not value.startswith("$"):
                found += [f"{label} is never {word}" for word in values if word not in known]
    for labels, aggregated in groupings(read):
        for each in aggregated:
            found += [f"{each.metric} has no label {label}" for label in labels - series().get(each.metric, labels)]
    return found


def labels_left(expression: str) -> set[str]:
    """Give the labels that its result may have: what it groups by, or all where it does not group."""
    read = parsed(expression)
    grouped = [labels for labels, _ in groupings(read)]
    if grouped:
        return set[str]().union(*grouped)
    return set[str]().union(*(series().get(each.metric, frozenset()) for each in selected(read)))


def test_what_is_not_there_is_noticed() -> None:
    assert faults("rate(gearshift_call_total[5m])") == ["there is no gearshift_call_total"]
    assert faults('gearshift_calls_total{chain="x"}') == ["gearshift_calls_total has no label chain"]
    assert faults('gearshift_calls_total{outcome=~"failed|failing"}') == ["outcome is never failing"]
    assert faults("sum by (chain) (gearshift_calls_in_flight)") == ["gearshift_calls_in_flight has no label chain"]
    with pytest.raises(ValueError):
        parsed("sum by (rate(")


@pytest.mark.parametrize("rule", [pytest.param(rule, id=rule["alert"]) for rule in rules()])
def test_alerts_ask_for_what_is_there(rule: dict[str, Any]) -> None:
    assert not faults(rule["expr"])
    assert rule["labels"]["severity"] in ("page", "ticket")
    named = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
    assert named <= labels_left(rule["expr"])


@pytest.mark.parametrize(("expression", "legend"), [pytest.param(*each[1:], id=each[0]) for each in targets()])
def test_panels_ask_for_what_is_there(expression: str, legend: str) -> None:
    assert not faults(expression)
    assert set(re.findall(r"{{(\w+)}}", legend)) <= labels_left(expression)


def test_dashboard_is_whole() -> None:
    board = json.loads(DASHBOARD.read_text())
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    variables = {each["name"] for each in board["templating"]["list"]}
    used = set(re.findall(r"\$(?!__)(\w+)", " ".join(each[1] for each in targets())))
    assert used <= variables
    for each in board["templating"]["list"]:
        if each["type"] == "query":
            metric, label = re.findall(r"label_values\((\w+), (\w+)\)", each["definition"])[0]
            assert label in series()[metric]
    # Panels of a row stand side by side and do not lie on each other.
    cells = set[tuple[int, int]]()
    for panel in board["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        own = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not own & cells, panel["title"]
        cells |= own


def test_every_metric_is_on_the_dashboard() -> None:
    shown = {each.metric for _, expression, _ in targets() for each in selected(parsed(expression))}
    names = {name for name, _, _ in table()}
    assert not [name for name in sorted(names) if not any(each.startswith(name) for each in shown)]


def sections() -> dict[str, str]:
    """Give the runbook's entries by their alert."""
    runbook = OPERATIONS.read_text().partition("\n## Runbook\n")[2]
    runbook = re.split(r"^## ", runbook, flags=re.MULTILINE)[0]
    parts = re.split(r"^### (\w+)$", runbook, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_alert_has_its_entry_and_every_entry_its_alert() -> None:
    assert list(sections()) == [rule["alert"] for rule in rules()]
    for rule in rules():
        assert rule["annotations"]["runbook_url"] == f"docs/operations.md#{rule['alert'].lower()}"


def test_every_alert_has_commands_that_grpcurl_runs() -> None:
    # That they work as they stand is tried with the rest of the page (test_docs_snippets.py).
    for alert, text in sections().items():
        commands = re.findall(r"^\$ (.*)$", text, re.MULTILINE)
        assert commands, f"{alert} has no command"
        assert not [command for command in commands if not command.startswith("grpcurl -plaintext ")]


def test_no_label_takes_values_without_bound() -> None:
    text = OPERATIONS.read_text().partition("| label | values | how many |")[2].partition("\n\n")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| ")
    ]
    rows = [cells for cells in rows if cells[0] != "---"]
    told = {(label, of): (values, most) for first, values, most in rows for label, of in named_labels(first)}
    used = {label for _, _, labels in table() for label in re.findall(r"\w+", labels)}
    assert used == {label for label, _ in told}
    for (metric, label), words in WORDS.items():
        whose = next((of for of in OF_METRIC if OF_METRIC[of] in metric), "")
        values, most = told.get((label, whose)) or told[label, ""]
        if most.isdecimal():
            assert int(most) == len(words) + (label == "failure" and "" not in words), label
        for word in words:
            assert word in values or "](" in values, (label, word)


OF_METRIC = {"calls": "_calls_", "attempts": "_attempts_", "refused keys": "_refused_"}
"""What the table says of labels that two metrics have, by a part of the metric's name."""


def named_labels(cell: str) -> list[tuple[str, str]]:
    """Give the labels that a row of the table is about, each with whose it is where that is said."""
    labels, _, of = cell.partition(" of ")
    return [(label, of) for label in labels.split(", ")]


def test_every_alert_is_made_to_fire() -> None:
    cases = [each for case in yaml.safe_load(UNIT_TESTS.read_text())["tests"] for each in case["alert_rule_test"]]
    assert {each["alertname"] for each in cases if each["exp_alerts"]} == {rule["alert"] for rule in rules()}


def test_alerts_fire_when_they_should() -> None:
    promtool("test", "rules", str(UNIT_TESTS))


def test_the_scrape_configuration_is_one() -> None:
    promtool("check", "config", str(ALERTS.parent / "scrape.yaml"))


async def test_promtool_has_nothing_against_the_metrics() -> None:
    upstream = Reply.json(openai_answer("fine"))
    async with scripted(upstream) as up, running_server(of_openai({"up": up.url})) as server:
        await server.route(plain_call())
        async with httpx.AsyncClient(trust_env=False) as client:
            exposed = (await client.get(f"http://127.0.0.1:{server.app.http_port}/metrics")).text
    assert exposed.count("# TYPE gearshift_") > 15
    assert promtool("check", "metrics", given=exposed) == ""


def promtool(*words: str, given: str = "") -> str:
    """Run it; it must succeed. Gives what it says against what it was given."""
    found = shutil.which("promtool")
    if found is None:
        assert os.environ.get("CI") != "true", "promtool is missing: make test-deps"
        pytest.skip("needs promtool, of Debian's package prometheus: make test-deps")
    done = subprocess.run([found, *words], check=False, capture_output=True, text=True, input=given, timeout=BOUND_S)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stderr
