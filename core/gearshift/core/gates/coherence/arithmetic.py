"""Whether the sums that an answer writes down are right: `12 * 7 = 85` is not.

Rules: only plain equations of numbers, with nothing before or after that could belong to them (a variable, a unit, a
percent sign, another operator), are worked out, exactly. A result may be rounded or cut to the digits that it shows.
Texts that count in another base or modulo something are left alone. The work is bounded: so many equations, so many digits.
"""

from __future__ import annotations

import re
from fractions import Fraction

from gearshift.core.answer import Verdict
from gearshift.core.gates.base import Candidate, doubted

GATE = "arithmetic"
_MOST_EQUATIONS = 200
_ROUNDED_ON_THE_WAY = Fraction(1, 100)
"""How far a decimal may be off: parts of it may have been rounded before."""
_LAST_DIGIT = Fraction(1, 2000)
"""How far a whole number may be off: $6,667 - $2,222 = $4,444."""

_NUMBER = r"\$?\d{1,3}(?:,\d{3})+(?:\.\d{1,10})?|\$?\d{1,12}(?:\.\d{1,10})?"
_OPERATOR = r"[ \t]?(?:[-+*/×÷−]|\bx\b)[ \t]?"
_EQUATION = re.compile(
    rf"(?:{_NUMBER})(?:{_OPERATOR}(?:{_NUMBER})){{1,6}}[ \t]?=[ \t]?(?P<sign>[-−]?)(?P<result>{_NUMBER})", re.ASCII
)
_BEFORE = re.compile(
    r"(?:[-+*/×÷−^<>≤≥≈~(\[{|_%√∑!]|\\[a-z]+|\b[A-Za-z]|\b(?:times|by|over|plus|minus|of|per)|\d[,.]?)[ \t]*\Z|[\w.,:$)\]}]\Z"
)
_AFTER = re.compile(r"\s*(?:[-+*/×÷−^%=<>≤≥≈~(\[{\\|_!°:]|[xr]\b|\.?\d|,\d|rem|mod|and \d|…|\.\.)|[A-Za-z]")
_OTHER_COUNTING = re.compile(
    r"binary|hexa|octal|\bbase[- ]?\d|\bmod(?:ulo|ular)?\b|≡|\bremainder\b|\bXOR\b|clock|identity element|\bring\b|\bgroup\b|Z_|\\mathbb|concaten|\bfield\b|wrong|incorrect|"
    r"approximat|mistake|not equal|matrix|complex",
    re.IGNORECASE,
)
_ANNOTATION = re.compile(r"<<[^<>\n]{1,80}>>")
_TOKEN = re.compile(rf"(?:{_NUMBER})|[-+*/×÷−x]")


class ArithmeticCheck:
    """Judges free text by its equations."""

    name = GATE
    of_documents = False

    def judge(self, candidate: Candidate) -> Verdict | None:
        """Give what is wrong with a complete answer, or None."""
        text = candidate.text
        if "=" not in text:
            return None
        slip = find_slip(text)
        if slip is None:
            return None
        shown = "a sum in the answer is wrong" if candidate.restricted else f"{slip[0]!r}: that is {slip[1]}"
        return doubted(GATE, "slip", shown)


def find_slip(text: str) -> tuple[str, str] | None:
    """Give the first wrong equation and its right result, or None."""
    if "<<" in text:
        text = _ANNOTATION.sub("", text)
    checked = 0
    for found in _EQUATION.finditer(text):
        checked += 1
        if checked > _MOST_EQUATIONS:
            return None
        start, end = found.span()
        if _BEFORE.search(text, max(0, start - 12), start) or _AFTER.match(text, end):
            continue
        left = found[0][: found[0].index("=")]
        right = _work_out(left)
        if right is None or _agrees(right, found["sign"], found["result"]):
            continue
        if _OTHER_COUNTING.search(text):
            return None
        return found[0], _shown(right)
    return None


def _work_out(left: str) -> Fraction | None:
    """Give the value of numbers and operators, products first."""
    total, term, sign = Fraction(0), Fraction(0), 1
    operator = "+"
    for token in _TOKEN.findall(left):
        if not token[-1].isdigit():
            operator = token
            continue
        number = Fraction(token.lstrip("$").replace(",", ""))
        if operator in "*×x":
            term *= number
        elif operator in "/÷":
            if not number:
                return None
            term /= number
        else:
            total += sign * term
            sign = 1 if operator == "+" else -1
            term = number
    return total + sign * term


def _agrees(value: Fraction, sign: str, written: str) -> bool:
    """Tell whether a result may be written so: exactly, rounded or cut off."""
    digits = written.lstrip("$").replace(",", "")
    number = Fraction(digits) * (-1 if sign else 1)
    places = len(digits.partition(".")[2])
    if value == -number:
        return True  # "25 - 26 = 1 page less": the words carry the sign
    return abs(value - number) < Fraction(1, 10**places) or _is_rounded(value, digits, number)


def _is_rounded(value: Fraction, digits: str, number: Fraction) -> bool:
    """Tell whether a whole number was rounded to its zeros (1234 * 5 = 6200) or a decimal one digit further off."""
    zeros = len(digits) - len(digits.rstrip("0")) if "." not in digits else 0
    if zeros >= 2:
        return abs(value - number) <= Fraction(10**zeros, 2)
    if not number:
        return False
    is_decimal = "." in digits or value.denominator != 1
    return abs(value / number - 1) < (_ROUNDED_ON_THE_WAY if is_decimal else _LAST_DIGIT)


def _shown(value: Fraction) -> str:
    return str(value.numerator) if value.denominator == 1 else f"{float(value):.6g}"
