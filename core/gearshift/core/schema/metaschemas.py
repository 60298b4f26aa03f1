"""The metaschemas of 2020-12 and draft-07, so that `$ref` to them needs no network.

Rules: the files in `metaschemas/` are json-schema.org's own, unchanged (their
licence: AFL 3.0 or BSD, https://github.com/json-schema-org/json-schema-spec).
"""

import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, Final

_FILES: Final[Mapping[str, str]] = {
    "https://json-schema.org/draft/2020-12/schema": "2020-12.schema.json",
    "http://json-schema.org/draft-07/schema": "draft-07.json",
} | {
    f"https://json-schema.org/draft/2020-12/meta/{name}": f"2020-12.{name}.json"
    for name in (
        "applicator",
        "content",
        "core",
        "format-annotation",
        "format-assertion",
        "meta-data",
        "unevaluated",
        "validation",
    )
}


def load_metaschema(uri: str) -> dict[str, Any] | None:
    """Return the metaschema with this URI (without fragment), or None when it is not one of ours."""
    name = (
        _FILES.get(uri)
        or _FILES.get(uri.replace("https:", "http:", 1))
        or _FILES.get(uri.replace("http:", "https:", 1))
    )
    if name is None:
        return None
    text = files("gearshift.core.schema").joinpath("metaschemas", name).read_text(encoding="utf-8")
    document: dict[str, Any] = json.loads(text)
    return document
