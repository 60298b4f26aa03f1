"""Cut the small copy of the data that the page is made of.

    python -m bench.replay.copy --data DIR

Rules: DIR has the folders of the whole data (`mmlu_pro_cascade`, `routellm`, `json_schema`, `frugalgpt_summary`, `traffic`);
the copy has the same folders, files and columns, fewer rows of them, and only the two models that are replayed. Rows are
chosen by a hash of their id, so that the same rows come out again. Licences stand in bench/data/replay/README.md.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

from bench.replay.data import COPY, PUBLISHED, lines

MMLU, GSM8K, BFCL, ARRIVALS = 900, 500, 320, 2_400
_MODELS = ("gemini-1.5-flash", "gemini-1.5-pro")


def main(arguments: Sequence[str] | None = None) -> int:
    """Cut it."""
    parser = argparse.ArgumentParser(prog="python -m bench.replay.copy")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    data: Path = parser.parse_args(arguments).data
    answered = {each["question_id"]: each for each in lines(data / "mmlu_pro_cascade/responses.jsonl.gz")}
    questions = [
        each for each in lines(data / "mmlu_pro_cascade/questions.jsonl.gz") if each["question_id"] in answered
    ]
    chosen = _some(questions, "question_id", MMLU)
    columns = ("question_id", "category", "question", "options", "answer", "correct")
    _write("mmlu_pro_cascade/questions.jsonl.gz", ({name: each[name] for name in columns} for each in chosen))
    texts = ({name: answered[each["question_id"]][name] for name in ("question_id", *_MODELS)} for each in chosen)
    _write("mmlu_pro_cascade/responses.jsonl.gz", texts)
    _write("routellm/gsm8k.jsonl.gz", _some(lines(data / "routellm/gsm8k.jsonl.gz"), "id", GSM8K))
    functions = lines(data / "json_schema/bfcl_function_calls.jsonl.gz")
    _write("json_schema/bfcl_function_calls.jsonl.gz", _some(functions, "id", BFCL))
    _curve(data / "frugalgpt_summary/curve_points.csv", COPY / "frugalgpt_summary/curve_points.csv")
    with gzip.open(data / "traffic/azure_conv.csv.gz", "rt") as file:
        head = "".join(line for _, line in zip(range(ARRIVALS + 1), file, strict=False))
    _pack("traffic/azure_conv.csv.gz", head)
    return 0


def _some(rows: Iterable[dict[str, Any]], key: str, count: int) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: blake2b(f"replay {row[key]}".encode(), digest_size=8).digest())[:count]


def _curve(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open(newline="") as file, target.open("w", newline="") as made:
        reader = csv.DictReader(file)
        writer = csv.DictWriter(made, reader.fieldnames or ())
        writer.writeheader()
        models = {model for model, _ in PUBLISHED.values()}
        writer.writerows(row for row in reader if row["method"] in models)


def _write(name: str, rows: Iterable[dict[str, Any]]) -> None:
    _pack(name, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _pack(name: str, text: str) -> None:
    path = COPY / name
    path.parent.mkdir(parents=True, exist_ok=True)
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as file:
        file.write(text.encode())
    path.write_bytes(packed.getvalue())


if __name__ == "__main__":
    raise SystemExit(main())
