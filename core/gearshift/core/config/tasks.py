"""Declared tasks of the file into tasks that can be served.

Rules: a task has a chain; its chain has a stage that may see it (sensitivity is never widened) and, when its complexity
is declared, one that is strong enough; its examples keep to its own output.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from gearshift.core.blueprint import Chain, DeclaredTask
from gearshift.core.config.chains import check_fit
from gearshift.core.config.model import Config, OutputConfig, TaskConfig
from gearshift.core.config.policies import merged, stream_policy
from gearshift.core.config.problems import Place, Report, suggestion
from gearshift.core.config.revision import task_hash
from gearshift.core.request import JsonOutput, LabelOutput, Output
from gearshift.core.schema import CheckLimitError, DocumentError, SchemaError, compile_schema
from gearshift.core.words import Complexity, Sensitivity, TaskType


def build_tasks(config: Config, chains: Mapping[str, Chain | None], report: Report) -> dict[str, DeclaredTask]:
    """Give the declared tasks that are right."""
    tasks: dict[str, DeclaredTask] = {}
    for task_id, each in config.tasks.declared.items():
        if (task := _task(task_id, each, config, chains, report)) is not None:
            tasks[task_id] = task
    return tasks


def _task(
    task_id: str, task: TaskConfig, config: Config, chains: Mapping[str, Chain | None], report: Report
) -> DeclaredTask | None:
    place: Place = ("tasks", "declared", task_id)
    before = report.count
    task_type = TaskType.from_word(task.type)
    complexity = None if task.complexity is None else Complexity.from_word(task.complexity)
    sensitivity = None if task.sensitivity is None else Sensitivity.from_word(task.sensitivity)
    output = _output(task, task_type, place, report)
    chain = _chain(task, chains, place, report)
    if chain is None:
        return None
    if task.chain != task_type.word:
        check_fit(list(chain.stages), task_type, ("chains", chain.name, "stages"), report)
    _check_cache(task, task_type, sensitivity, chain, place, report)
    _check_served(chain, complexity, sensitivity or Sensitivity.INTERNAL, place, report)
    policy = merged(chain.policy, task.policy, (*place, "policy"), report)
    if report.count > before:
        return None
    return DeclaredTask(
        id=task_id,
        type=task_type,
        complexity=complexity,
        sensitivity=sensitivity,
        prompt=task.prompt,
        static=task.static,
        output=output,
        chain=chain,
        policy=policy,
        stream=stream_policy(task.stream or config.stream),
        max_tokens=task.max_tokens,
        temperature=task.temperature,
        limits=task.limits,
        definition_hash=task_hash(task_id, task),
        cache=task.cache,
        on_exhausted=task.on_exhausted,
    )


def _chain(task: TaskConfig, chains: Mapping[str, Chain | None], place: Place, report: Report) -> Chain | None:
    """Give the task's chain; None when it does not exist, or is broken itself, which has been said."""
    if task.chain and task.chain not in chains:
        report.error((*place, "chain"), f"unknown chain `{task.chain}`{suggestion(task.chain, chains)}")
    elif not task.chain and task.type not in chains:
        report.error((*place, "chain"), f"is missing, and no chain is named `{task.type}` to serve its type")
    return chains.get(task.chain or task.type)


def _check_cache(
    task: TaskConfig,
    task_type: TaskType,
    sensitivity: Sensitivity | None,
    chain: Chain,
    place: Place,
    report: Report,
) -> None:
    if task.cache is None:
        return
    here = (*place, "cache")
    if task_type is TaskType.EMBED:
        report.error(here, "keeps answers; vectors are kept without it, see caching.embedding_max_bytes")
    elif sensitivity is Sensitivity.RESTRICTED:
        report.error(here, "restricted answers are never kept; leave it out")
    elif not task.cache.any_temperature and (
        task.temperature or (task.temperature is None and any(stage.temperature != 0 for stage in chain.stages))
    ):
        report.warn(
            here,
            "keeps only the answers of callers who set temperature 0: set temperature: 0 for the task, or any_temperature",
        )


def _check_served(
    chain: Chain, complexity: Complexity | None, sensitivity: Sensitivity, place: Place, report: Report
) -> None:
    cleared = [
        stage
        for stage in chain.stages
        if stage.provider.clearance >= sensitivity
        and (stage.provider.secure or sensitivity is not Sensitivity.RESTRICTED)
    ]
    if not cleared:
        how = " with `clearance: restricted` and TLS" if sensitivity is Sensitivity.RESTRICTED else ""
        report.error(
            (*place, "sensitivity"),
            f"no provider in chain `{chain.name}` is cleared for {sensitivity.word}: it needs one{how}",
        )
    elif complexity is not None and all(stage.ref.capability < complexity for stage in cleared):
        report.error(
            (*place, "complexity"),
            f"no stage of chain `{chain.name}` that may see it has capability {complexity.word}",
        )


def _output(task: TaskConfig, task_type: TaskType, place: Place, report: Report) -> Output | None:
    output, here = task.output, (*place, "output")
    if output is None:
        return None
    if task_type is TaskType.EMBED:
        report.error(here, "an embed task gives vectors; leave it out")
        return None
    if output.labels and output.json_schema is not None:
        report.error(here, "has both labels and json_schema; an answer is one or the other")
        return None
    if output.labels:
        return _labels(output, here, report)
    if output.json_schema is not None:
        return _json(output, output.json_schema, here, report)
    report.error(here, "needs labels or json_schema")
    return None


def _labels(output: OutputConfig, place: Place, report: Report) -> LabelOutput:
    seen: set[str] = set()
    for number, label in enumerate(output.labels):
        if not label.strip():
            report.error((*place, "labels", number), "is empty")
        elif label in seen:
            report.error((*place, "labels", number), f"`{label}` stands twice")
        seen.add(label)
    for number, example in enumerate(output.examples):
        here = (*place, "examples", number)
        if example.json:
            report.error((*here, "json"), "is for json_schema; give the label")
        elif example.label not in seen:
            report.error(
                (*here, "label"), f"`{example.label}` is not among the labels{suggestion(example.label, seen)}"
            )
    return LabelOutput(
        labels=output.labels, examples=tuple((example.text, example.label) for example in output.examples)
    )


def _json(output: OutputConfig, json_schema: dict[str, object], place: Place, report: Report) -> JsonOutput:
    text = msgspec.json.encode(json_schema).decode()
    try:
        schema = compile_schema(json_schema)
    except (SchemaError, DocumentError) as error:
        report.error((*place, "json_schema"), f"is not a schema that can be used: {error}")
        return JsonOutput(schema=text)
    for number, example in enumerate(output.examples):
        here = (*place, "examples", number)
        if example.label:
            report.error((*here, "label"), "is for labels; give the json")
            continue
        try:
            document: object = msgspec.json.decode(example.json)
        except msgspec.DecodeError as error:
            report.error((*here, "json"), f"is not JSON: {error}")
            continue
        try:
            issues = schema.check(document)
        except CheckLimitError as error:
            report.error((*here, "json"), f"cannot be checked: {error}")
            continue
        if issues:
            report.error((*here, "json"), f"does not keep to the schema: {issues[0]}")
    return JsonOutput(schema=text, examples=tuple((example.text, example.json) for example in output.examples))
