"""The table of all fields in docs/configuration.md, made from the Structs themselves.

Rules: the text of a field is its docstring in model.py, the default is the Struct's; nothing is written twice. Needs
the source of model.py, so it is for the documentation and its test, not for the running service.
"""

from __future__ import annotations

import ast
import inspect as source_of
from decimal import Decimal
from pathlib import Path
from typing import Final

from msgspec import NODEFAULT, Struct, inspect

from gearshift.core.config import model
from gearshift.core.config.model import ENDPOINT_PATTERN, EXPIRY_PATTERN, Config

BEGIN: Final = "<!-- begin of the generated table -->"
END: Final = "<!-- end of the generated table -->"
_PATTERNS: Final = {EXPIRY_PATTERN: "time", ENDPOINT_PATTERN: "URL"}
"""What texts of these forms are called."""


def reference() -> str:
    """Give one section of Markdown for each mapping of the file, the whole file first."""
    texts = field_texts()
    return "\n".join(_section(each, path, texts) for path, each in _sections())


def refreshed(page: str) -> str:
    """Give the page with the table of now between its two marks.

    Raises:
        ValueError: a mark is missing.
    """
    before, _, rest = page.partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise ValueError(f"the page lacks {BEGIN} or {END}")
    return f"{before}{BEGIN}\n\n{reference()}\n{END}{after}"


def field_texts() -> dict[tuple[str, str], str]:
    """Give the docstring of each field by class and field name; an empty field name is the class's own."""
    texts: dict[tuple[str, str], str] = {}
    for node in ast.parse(source_of.getsource(model)).body:
        if not isinstance(node, ast.ClassDef):
            continue
        texts[node.name, ""] = " ".join((ast.get_docstring(node) or "").split())
        for field, text in zip(node.body, node.body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
            ):
                texts[node.name, field.target.id] = " ".join(str(text.value.value).split())
    return texts


def _sections() -> list[tuple[str, inspect.StructType]]:
    """Give each Struct once, where it stands first, breadth first from the whole file."""
    root = inspect.type_info(Config)
    assert isinstance(root, inspect.StructType)
    found: dict[type[Struct], tuple[str, inspect.StructType]] = {}
    waiting: list[tuple[str, inspect.StructType]] = [("", root)]
    while waiting:
        path, struct = waiting.pop(0)
        if struct.cls in found:
            continue
        found[struct.cls] = (path, struct)
        for each in struct.fields:
            inner, suffix = _inner(each.type)
            if inner is not None:
                waiting.append((f"{path}.{each.encode_name}{suffix}".lstrip("."), inner))
    return list(found.values())


def _inner(kind: inspect.Type) -> tuple[inspect.StructType | None, str]:
    match kind:
        case inspect.StructType():
            return kind, ""
        case inspect.UnionType():
            return _inner(kind.types[0])
        case inspect.VarTupleType():
            inner, suffix = _inner(kind.item_type)
            return inner, f"[]{suffix}"
        case inspect.DictType():
            inner, suffix = _inner(kind.value_type)
            return inner, f".<name>{suffix}"
        case _:
            return None, ""


def _section(struct: inspect.StructType, path: str, texts: dict[tuple[str, str], str]) -> str:
    name = struct.cls.__name__
    title = f"`{path}`" if path else "The whole file"
    lines = [
        f'<a id="{_anchor(struct)}"></a>',
        "",
        f"### {title}",
        "",
        texts[name, ""],
        "",
        "| field | type | default | meaning |",
        "| --- | --- | --- | --- |",
    ]
    for each in struct.fields:
        cells = (f"`{each.encode_name}`", _type(each.type), _default(each), texts.get((name, each.name), ""))
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join([*lines, ""])


def _anchor(struct: inspect.StructType) -> str:
    return struct.cls.__name__.removesuffix("Config").lower() or "file"


def _type(kind: inspect.Type, extra: dict[str, object] | None = None) -> str:
    match kind:
        case inspect.Metadata():
            facts: dict[str, object] = dict(kind.extra or {})  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
            return _type(kind.type, facts)
        case inspect.UnionType():
            return _type(kind.types[0])
        case inspect.StructType():
            return f"[{_anchor(kind)}](#{_anchor(kind)})"
        case inspect.VarTupleType():
            return f"list of {_type(kind.item_type)}"
        case inspect.DictType():
            return f"mapping to {_type(kind.value_type)}"
        case inspect.StrType():
            return _text_type(kind, extra or {})
        case inspect.IntType() | inspect.FloatType():
            noun = "whole number" if isinstance(kind, inspect.IntType) else "number"
            low = f"from {kind.ge:,}" if kind.ge is not None else f"above {kind.gt:,}"
            return f"{noun}, {low} to {kind.le:,.0f}" if kind.le is not None else f"{noun}, {low}"
        case inspect.DecimalType():
            return "decimal, from 0"
        case inspect.BoolType():
            return "true or false"
        case _:
            return "any"


def _text_type(kind: inspect.StrType, extra: dict[str, object]) -> str:
    words = extra.get("words")
    if isinstance(words, tuple):
        return ", ".join(f"`{word}`" for word in words if word)  # pyright: ignore[reportUnknownVariableType]
    if extra.get("secret"):
        return "secret: text with `${NAME}`"
    if kind.pattern:
        return _PATTERNS.get(kind.pattern, "64 hexadecimal digits" if "0-9a-f" in kind.pattern else "name")
    return "text"


def _default(each: inspect.Field) -> str:
    if each.required:
        return "**required**"
    value: object = each.default if each.default is not NODEFAULT else each.default_factory()
    match value:
        case None:
            return "unset"
        case bool():
            return "`true`" if value else "`false`"
        case int() | float() | Decimal():
            return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"
        case str():
            return f"`{value}`" if value else "empty"
        case dict() if value:
            return ", ".join(f"`{key}: {item}`" for key, item in value.items())  # pyright: ignore[reportUnknownVariableType]
        case Struct():
            return "its defaults"
        case _:
            return "empty"


def main() -> None:
    """Write the table into docs/configuration.md of the folder that this is run in."""
    page = Path("docs/configuration.md")
    page.write_text(refreshed(page.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
