"""The table of docs/quality.md, from recorded answers that nothing was fitted to: all of it by what ships."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

numpy = pytest.importorskip("numpy")

from bench.quality.fitted import fitted
from bench.quality.stated import fit
from bench.quality.table import Row, as_table, write
from gearshift.core.confidence.calibration import STATED_PRIOR

ROOT = Path(__file__).resolve().parents[2]
MODELS = ("phi-3-mini", "llama-3.1-8b", "gemini-1.5-flash", "llama-3.1-70b", "gemini-1.5-pro")
COUNT = 24

Change = Callable[[dict[str, Any], int], object]
"""Does something to the row at a place."""


def kept(folder: Path, name: str, rows: Iterable[dict[str, Any]]) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def exam(folder: Path) -> None:
    def text(number: int, letter: str) -> str:
        return f"{number} crates of {number + 3} plums are {number * (number + 3)} plums. The answer is ({letter})."

    kept(
        folder,
        "mmlu_pro_cascade/questions.jsonl.gz",
        (
            {
                "question_id": number,
                "category": "math",
                "src": "own",
                "question": f"Porter {number} carries {number} crates of {number + 3} plums. How many plums are carried?",
                "options": [str(number * (number + 3)), str(number), "17 baskets"],
                "answer": "A",
                "correct": {model: int((number + at) % 3 > 0) for at, model in enumerate(MODELS)},
                "out_chars": dict.fromkeys(MODELS, 60),
                "complexity": ("low", "medium", "high")[number % 3],
            }
            for number in range(COUNT)
        ),
    )
    # In another order than the questions, which must not matter.
    kept(
        folder,
        "mmlu_pro_cascade/responses.jsonl.gz",
        (
            {"question_id": number, **{model: text(number, "ABC"[number % 3]) for model in MODELS[1:]}}
            for number in reversed(range(COUNT))
        ),
    )


def two_models(folder: Path) -> None:
    kept(
        folder,
        "routellm/mmlu.jsonl.gz",
        (
            {
                "prompt": f"Which gate of the orchard at mile {number} was built last?\nA. north\nB. south\nAnswer:",
                "subject": "prehistory",
                "weak_correct": int(number % 2),
                "strong_correct": int(number % 5 > 0),
            }
            for number in range(COUNT)
        ),
    )
    kept(
        folder,
        "routellm/gsm8k.jsonl.gz",
        (
            {
                "prompt": f"A keeper picks {number} pears, then 4 more. How many pears are picked?",
                "weak_correct": int(number % 4 > 0),
                "strong_correct": int(number % 9 > 0),
                "weak_response": f"{number} + 4 = {number + 4 + (number % 4 == 0)}\n#### {number + 4 + (number % 4 == 0)}",
                "strong_response": f"#### {number + 4}",
            }
            for number in range(COUNT)
        ),
    )


def nine_models(folder: Path) -> None:
    names = fitted().nine_models
    kept(
        folder,
        "llmrouter_9models/queries.jsonl.gz",
        (
            {
                "task_name": "gsm8k",
                "query": f"A cooper makes {number} barrels in 2 days. How many in 6 days?",
                "complexity": "low",
                "scores": {name: float((number + at) % 4 > 0) for at, name in enumerate(names)},
            }
            for number in range(COUNT)
        ),
    )
    prices = {name: {"usd_per_mtok_in": 0.1 * (1 + at), "usd_per_mtok_out": 1.0} for at, name in enumerate(names)}
    (folder / "llmrouter_9models/prices.json").write_text(json.dumps(prices), "utf-8")


def run(data: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench.quality", str(data), *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def lines_of(data: Path, *options: str) -> dict[str, dict[str, str]]:
    done = run(data, "--json", *options)
    assert done.returncode == 0, done.stderr
    return {each["what"]: each for each in json.loads(done.stdout)}


def test_other_data_is_judged_by_what_ships_on_every_row(tmp_path: Path) -> None:
    exam(tmp_path)
    two_models(tmp_path)
    nine_models(tmp_path)
    found = lines_of(tmp_path, "--only", "answers,routers")
    unmeasured = {what for what, each in found.items() if each["measured"] == "not measured"}
    assert unmeasured == {"answer confidence, time on 2 KiB"}  # there is no answer of that length
    assert found["answer confidence, AUROC, flash on MMLU-Pro"]["measured"].endswith(f"of {COUNT}")
    assert found["answer confidence, AUROC, Mixtral on GSM8K"]["measured"].endswith(f"of {COUNT}")
    for what in ("APGR on MMLU, router", "APGR on GSM8K, cascade", "nine models, price at ≥ 100 % of the best"):
        assert "nothing fitted here" in found[what]["protocol"]
    assert "from the training part" in found["cost at ≥ 98 %, MMLU, router"]["protocol"]


def test_sets_that_are_missing_are_named_and_the_rest_is_measured(tmp_path: Path) -> None:
    two_models(tmp_path)
    done = run(tmp_path, "--json", "--only", "answers,routers,classifier")
    assert done.returncode == 0, done.stderr
    found = {each["what"]: each for each in json.loads(done.stdout)}
    assert "llmrouter_9models/queries.jsonl.gz" in done.stderr
    assert found["answer confidence, AUROC, flash on MMLU-Pro"]["measured"] == "not measured"
    assert found["nine models, price at ≥ 100 % of the best"]["measured"] == "not measured"
    assert found["task type, macro-F1"]["protocol"] == "task_type/prompts.jsonl.gz is missing"
    assert found["APGR on MMLU, router"]["measured"] != "not measured"


def test_rows_without_a_column_are_left_out_by_name_and_others_more_columns_ignored(tmp_path: Path) -> None:
    exam(tmp_path)
    two_models(tmp_path)
    changes: list[tuple[str, Change]] = [
        (
            "mmlu_pro_cascade/questions.jsonl.gz",
            lambda row, at: row.pop("correct") if at < 3 else row.update(editor="own"),
        ),
        ("mmlu_pro_cascade/responses.jsonl.gz", lambda row, at: row.update(note="a text that is no answer", number=at)),
        ("routellm/mmlu.jsonl.gz", lambda row, at: row.pop("subject")),
        ("routellm/gsm8k.jsonl.gz", lambda row, at: row.update(weak_response=None) if at == 0 else None),
    ]
    for name, change in changes:
        changed(tmp_path, name, change)
    (tmp_path / "gsm8k_6b_175b").mkdir()
    (tmp_path / "gsm8k_6b_175b/solutions.jsonl.gz").write_bytes(b"no archive")
    done = run(tmp_path, "--json", "--only", "answers,routers")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    found = {each["what"]: each for each in json.loads(done.stdout)}
    assert found["answer confidence, AUROC, flash on MMLU-Pro"]["measured"].endswith(f"of {COUNT - 3}")
    assert found["answer confidence, AUROC, Mixtral on GSM8K"]["measured"].endswith(f"of {COUNT - 1}")
    assert found["APGR on MMLU, router"]["protocol"] == "no whole rows in routellm/mmlu.jsonl.gz"
    for said in (
        "mmlu_pro_cascade/questions.jsonl.gz: 3 of 24 rows are left out, the first for line 1: Object missing required field `correct`.",
        "routellm/mmlu.jsonl.gz: 24 of 24 rows are left out",
        "`$.weak_response`",
        "gsm8k_6b_175b/solutions.jsonl.gz: cannot be read",
        "routerarena_cached/results.jsonl.gz: missing",
    ):
        assert said in done.stderr


def changed(folder: Path, name: str, change: Change) -> None:
    with gzip.open(folder / name, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    for at, row in enumerate(rows):
        change(row, at)
    kept(folder, name, rows)


def test_a_part_of_the_training_data_is_named_as_too_small_to_judge(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    source = ROOT / "bench/data/replay/routellm/gsm8k.jsonl.gz"
    with gzip.open(source, "rt", encoding="utf-8") as file:
        kept(tmp_path, "routellm/gsm8k.jsonl.gz", [json.loads(line) for line in file][:60])
    found = lines_of(tmp_path, "--only", "answers")
    line = found["answer confidence, AUROC, Mixtral on GSM8K"]
    assert line["measured"] == "not measured"
    assert line["protocol"] == "something was fitted to these 60 questions: too few to judge them by folds"


def test_the_prior_of_self_assessment_is_the_one_that_was_measured() -> None:
    found = fit()
    assert found.prior == pytest.approx(STATED_PRIOR, abs=0.006)
    assert 0.5 < found.slope < 1.6


def test_gates_are_measured_on_refusals_that_were_read_and_on_answers_that_were_cut(tmp_path: Path) -> None:
    exam(tmp_path)
    found = lines_of(tmp_path, "--only", "verdicts")
    precision, recall = re.findall(r"\((\d+\.\d)%\)", found["refusal"]["measured"])
    assert float(precision) > 90
    assert float(recall) > 70
    assert found["refusal, in all recorded answers"]["measured"].startswith(f"0 of {4 * COUNT} flagged")


def test_an_empty_folder_is_no_error(tmp_path: Path) -> None:
    found = lines_of(tmp_path, "--only", "classifier,answers,routers")
    assert {each["measured"] for each in found.values()} == {"not measured"}


def test_schema_cases_of_the_folder_are_taken(tmp_path: Path) -> None:
    case = {
        "draft": "draft7",
        "file": "own.json",
        "group": "own",
        "test": "own",
        "needs_remote": False,
        "optional": False,
    }
    kept(
        tmp_path,
        "json_schema/conformance.jsonl.gz",
        ({**case, "schema": {"type": "integer"}, "data": data, "valid": data == 1} for data in (1, "one")),
    )
    found = lines_of(tmp_path, "--only", "schema")["JSON Schema, required cases; time of `jsonschema`"]
    assert found["measured"].startswith("2 of 2;"), found


def test_classifier_is_measured_as_it_ships_on_prompts_never_seen(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    asked = {
        "classify": "Is the note about plum tree {} friendly or angry? Answer with one word.",
        "extract": "Extract all names and dates that the letter of gardener {} mentions.",
        "generate": "Write a short poem on orchard {} in autumn.",
        "reason": "Gardener {} has 3 rows of 7 trees and fells 4. How many trees are left?",
        "embed": "Represent the note on orchard {} for retrieval:",
    }
    kept(
        tmp_path,
        "task_type/prompts.jsonl.gz",
        (
            {"id": f"{kind} {number}", "text": text.format(number), "task_type": kind, "source": "own",
             "group": f"{kind} {number}", "form": "prompt"}
            for number in range(4)
            for kind, text in asked.items()
        ),
    )  # fmt: skip
    found = lines_of(tmp_path, "--only", "classifier")
    assert float(found["task type, macro-F1"]["measured"]) > 0.9
    assert found["task type, macro-F1"]["protocol"] == "what ships, nothing fitted here"


def test_unknown_parts_and_folders_are_refused(tmp_path: Path) -> None:
    assert run(tmp_path, "--only", "answers,nonsense").returncode == 2
    assert run(tmp_path / "nowhere").returncode == 2


def test_the_page_keeps_what_stands_around_its_table(tmp_path: Path) -> None:
    page = tmp_path / "quality.md"
    page.write_text("# Head\n<!-- measured: begin -->\nold\n<!-- measured: end -->\ntail\n", "utf-8")
    write(as_table([Row("what", "aim", "base", "0.9", "how")]), "own data.", page)
    text = page.read_text("utf-8")
    assert text.startswith("# Head\n")
    assert text.endswith("<!-- measured: end -->\ntail\n")
    assert "old" not in text
    assert "| what | aim | base | 0.9 | how |" in text
