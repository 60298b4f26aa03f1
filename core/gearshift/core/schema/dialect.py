"""What a `$schema` stands for: which keywords count, and how the older drafts differ.

Rules: 2020-12 and draft-07 are complete. Draft-04, draft-06 and 2019-09 are read as the nearer of the two, with
their own spelling of ids, bounds and tuples. Any other `$schema` is refused, unless the caller hands over that
metaschema: then its `$vocabulary` says which keywords count.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from gearshift.core.schema.errors import SchemaError
from gearshift.core.schema.kinds import is_object


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_VOCABULARY: Final = "https://json-schema.org/draft/2020-12/vocab/"
_CORE: Final = frozenset(
    ["$id", "$schema", "$ref", "$anchor", "$dynamicRef", "$dynamicAnchor", "$vocabulary", "$comment", "$defs"]
)
_VALIDATION: Final = _words(
    "type const enum multipleOf maximum exclusiveMaximum minimum exclusiveMinimum maxLength minLength pattern maxItems"
    " minItems uniqueItems maxContains minContains maxProperties minProperties required dependentRequired"
)
_APPLICATOR: Final = _words(
    "prefixItems items contains additionalProperties properties patternProperties dependentSchemas propertyNames if then"
    " else allOf anyOf oneOf not"
)
_UNEVALUATED: Final = frozenset(["unevaluatedItems", "unevaluatedProperties"])
_ANNOTATION: Final = _words(
    "title description default deprecated readOnly writeOnly examples format contentEncoding contentMediaType"
)
# Dropped from 2020-12, yet its metaschema still describes them and readers still meet them.
_DEPRECATED: Final = frozenset(["definitions", "dependencies"])
_VOCABULARIES: Final[Mapping[str, frozenset[str]]] = {
    "core": _CORE,
    "validation": _VALIDATION,
    "applicator": _APPLICATOR,
    "unevaluated": _UNEVALUATED,
    "format-annotation": frozenset(["format"]),
    "format-assertion": frozenset(["format"]),
    "content": frozenset(["contentEncoding", "contentMediaType", "contentSchema"]),
    "meta-data": frozenset(["title", "description", "default", "deprecated", "readOnly", "writeOnly", "examples"]),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Dialect:
    """The keywords of one `$schema`, and what sets the older drafts apart."""

    name: str
    keywords: frozenset[str]
    id_keyword: str = "$id"
    ref_hides_siblings: bool = False
    id_may_be_anchor: bool = False
    items_may_be_tuple: bool = False
    bounds_may_be_boolean: bool = False
    contains_marks_items: bool = True
    asserts_formats: bool = False


DRAFT_2020_12: Final = Dialect(
    name="2020-12",
    keywords=_CORE | _VALIDATION | _APPLICATOR | _UNEVALUATED | _ANNOTATION | _DEPRECATED | {"contentSchema"},
)
DRAFT_07: Final = Dialect(
    name="draft-07",
    keywords=frozenset(["$id", "$schema", "$ref", "$comment", "additionalItems"])
    | (_VALIDATION - {"maxContains", "minContains", "dependentRequired"})
    | (_APPLICATOR - {"prefixItems", "dependentSchemas"})
    | (_ANNOTATION - {"deprecated"})
    | _DEPRECATED,
    ref_hides_siblings=True,
    id_may_be_anchor=True,
    items_may_be_tuple=True,
)
_DRAFT_04: Final = replace(
    DRAFT_07,
    name="draft-04",
    id_keyword="id",
    keywords=(DRAFT_07.keywords - {"$id", "const", "contains", "propertyNames", "if", "then", "else"}) | {"id"},
    bounds_may_be_boolean=True,
)
_DRAFT_2019_09: Final = replace(
    DRAFT_2020_12,
    name="2019-09",
    keywords=(DRAFT_2020_12.keywords - {"prefixItems", "$dynamicRef", "$dynamicAnchor"})
    | {"additionalItems", "$recursiveRef", "$recursiveAnchor"},
    items_may_be_tuple=True,
    contains_marks_items=False,
)
_KNOWN: Final[Mapping[str, Dialect]] = {
    "json-schema.org/draft/2020-12/schema": DRAFT_2020_12,
    "json-schema.org/draft/2019-09/schema": _DRAFT_2019_09,
    "json-schema.org/draft-07/schema": DRAFT_07,
    "json-schema.org/draft-06/schema": replace(DRAFT_07, name="draft-06"),
    "json-schema.org/draft-04/schema": _DRAFT_04,
    "json-schema.org/schema": DRAFT_2020_12,
}


def dialect_of(uri: str, pointer: str, metaschemas: Mapping[str, Mapping[str, Any]]) -> Dialect:
    """Return the dialect that `$schema: uri` names.

    Raises:
        SchemaError: the metaschema is not known, or needs a vocabulary that is not.

    """
    plain = uri.removesuffix("#")
    known = _KNOWN.get(plain.removeprefix("https://").removeprefix("http://"))
    if known is not None:
        return known
    metaschema = metaschemas.get(plain)
    if metaschema is None:
        raise SchemaError(
            pointer,
            f'the metaschema "{uri[:100]}" is not known; use https://json-schema.org/draft/2020-12/schema or draft-07',
        )
    vocabulary = metaschema.get("$vocabulary")
    if not is_object(vocabulary):
        return DRAFT_2020_12
    return _with_vocabularies(plain, pointer, vocabulary)


def _with_vocabularies(name: str, pointer: str, vocabulary: Mapping[str, Any]) -> Dialect:
    keywords = _CORE
    asserts_formats = False
    for uri, required in vocabulary.items():
        short = uri.removeprefix(_VOCABULARY)
        if short in _VOCABULARIES:
            keywords |= _VOCABULARIES[short]
            asserts_formats |= short == "format-assertion"
        elif required:
            raise SchemaError(pointer, f'the vocabulary "{uri[:100]}" is not known')
    return Dialect(name=name, keywords=keywords, asserts_formats=asserts_formats)
