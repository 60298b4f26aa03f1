r"""Regular expressions mean what ECMA-262 says, or are refused by name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gearshift.core.schema import SchemaError, compile_schema


def matches(pattern: str, text: str) -> bool:
    return compile_schema({"pattern": pattern}).is_valid(text)


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        pytest.param("b", "abc", "xyz", id="unanchored"),
        pytest.param("^a$", "a", "a\n", id="dollar is the very end"),
        pytest.param(r"^\d$", "7", "߀", id="digits are ASCII"),
        pytest.param(r"^\w$", "_", "é", id="words are ASCII"),
        pytest.param(r"^\W$", "é", "a", id="all else is not a word"),
        pytest.param(r"^\s$", "\ufeff", "\u200b", id="spaces are Unicode's"),
        pytest.param(r"^[^\S]$", "\u2003", "x", id="not not a space"),
        pytest.param(r"^[\D]$", "x", "1", id="negated set in a class"),
        pytest.param("^.$", "x", "\u2028", id="dot is no line end"),
        pytest.param(r"^\cC$", "\x03", "C", id="control letter"),
        pytest.param(r"^\x41B\u{43}$", "ABC", "ABc", id="code points"),
        pytest.param(r"^\ud83d\udc32$", "\U0001f432", "x", id="surrogate pair"),
        pytest.param("^🐲*$", "🐲🐲", "🐉", id="beyond the basic plane"),
        pytest.param(r"^\p{Letter}+$", "école", "a1", id="property by long name"),
        pytest.param(r"^\p{Lu}\P{Lu}$", "Ab", "AB", id="property and its opposite"),
        pytest.param(r"^\p{Script=Greek}+$", "αβγ", "abc", id="script"),
        pytest.param(r"^\p{sc=Cyrl}$", "ж", "z", id="script by code"),
        pytest.param(r"^[\p{L}\d_-]+$", "é-1_", "é 1", id="property in a class"),
        pytest.param("^[]$|^x$", "x", "", id="empty class"),
        pytest.param("^[^]$", "\n", "", id="negated empty class"),
        pytest.param(r"^[\b]$", "\b", "b", id="backspace in a class"),
        pytest.param(r"^[a\-z]$", "-", "m", id="escaped hyphen"),
        pytest.param(r"^[\w-.]$", "-", "/", id="hyphen beside a set"),
        pytest.param(r"^[+--]$", ",", ".", id="range to a hyphen"),
        pytest.param("^[[]$", "[", "]", id="bracket in a class"),
        pytest.param("^a{2,3}?$", "aa", "a", id="lazy count"),
        pytest.param("^a{,3}$", "a{,3}", "aa", id="not a count"),
        pytest.param(r"^\${{.*}}$", "${{ x }}", "${ x }", id="literal braces"),
        pytest.param("^[a-z]{1,4096}$", "a" * 4096, "a" * 4097, id="large count"),
        pytest.param("^(?:ab){1500}$", "ab" * 1500, "ab" * 1499, id="large count of a group"),
        pytest.param("^(?<year>[0-9]{4})$", "2026", "26", id="named group"),
        pytest.param("^(?i:a)b$", "Ab", "AB", id="flags of a group"),
        pytest.param(r"^\/\-\_\ \@$", "/-_ @", "x", id="needless escapes"),
        pytest.param("^(a|)$", "", "b", id="empty branch"),
        pytest.param(r"\bx\b", "a x b", "axb", id="word boundary"),
    ],
)
def test_pattern_means_what_ecma_262_says(pattern: str, yes: str, no: str) -> None:
    assert matches(pattern, yes)
    assert not matches(pattern, no)


@pytest.mark.parametrize(
    ("pattern", "named"),
    [
        pytest.param("(?=a)", "look-ahead (?=", id="look-ahead"),
        pytest.param("^(?!a)b", "negative look-ahead (?!", id="negative look-ahead"),
        pytest.param("(?<=a)b", "look-behind (?<=", id="look-behind"),
        pytest.param("(?<!a)b", "negative look-behind (?<!", id="negative look-behind"),
        pytest.param(r"(a)\1", r"back-reference \1", id="back-reference"),
        pytest.param(r"(?<n>a)\k<n>", r"back-reference \k<n>", id="named back-reference"),
        pytest.param("(?P<n>a)", "(?P<", id="Python's named group"),
        pytest.param("(?i)a", "(?i)", id="Python's flags"),
        pytest.param("(?s:.)", "(?s:", id="other flags of a group"),
        pytest.param(r"a\Z", r"\Z", id="Perl's end"),
        pytest.param(r"\p{Emoji}", r"\p{Emoji}", id="unknown property"),
        pytest.param("(a", "not closed", id="open group"),
        pytest.param("a)", "not open", id="closing nothing"),
        pytest.param("[a", "not closed", id="open class"),
        pytest.param("*a", "nothing to repeat", id="repeating nothing"),
        pytest.param("a**", "nothing to repeat", id="repeating twice"),
        pytest.param("a{3,2}", "out of order", id="count out of order"),
        pytest.param("[z-a]", "range", id="range out of order"),
        pytest.param("a{9999}", "repeats more than", id="count too large"),
        pytest.param("(?:a{999}){999}", "too large", id="nested counts"),
        pytest.param("x" * 9000, "more than 8192", id="too long"),
        pytest.param("a\\", "escape", id="escape of nothing"),
        pytest.param(r"\u12", r"\u12", id="short code point"),
    ],
)
def test_pattern_that_cannot_be_used_is_refused_by_name(pattern: str, named: str) -> None:
    with pytest.raises(SchemaError) as raised:
        compile_schema({"properties": {"a": {"pattern": pattern}}})

    assert raised.value.pointer == "/properties/a/pattern"
    assert named in raised.value.message


def test_place_of_a_bad_pattern_property_is_named() -> None:
    with pytest.raises(SchemaError) as raised:
        compile_schema({"patternProperties": {"a/(?=b)": {}}})

    assert raised.value.pointer == "/patternProperties/a~1(?=b)"


@given(st.text(max_size=40))
def test_any_text_is_a_pattern_or_a_typed_error(pattern: str) -> None:
    try:
        schema = compile_schema({"pattern": pattern})
    except SchemaError:
        return
    schema.is_valid("a b1_é")


@given(st.text(alphabet=r"ab1\dws[]^-(){}|*+?.,$:=!<pLP", max_size=20))
def test_text_made_of_operators_is_a_pattern_or_a_typed_error(pattern: str) -> None:
    try:
        schema = compile_schema({"pattern": pattern})
    except SchemaError:
        return
    schema.is_valid("ab1 -")
