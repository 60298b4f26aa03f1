"""The rules of `format`, for callers who want formats checked rather than noted.

Rules: a format that is not here accepts everything, as JSON Schema says. Every
expression is anchored and has one way to match, so that it runs in linear time.
Sources: RFC 3339 (dates), 5321 and 6531 (mail), 1123 (hosts), 3986 and 3987
(URIs), 6570 (templates), 6901 (pointers), 4122 (UUIDs).
"""

import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Final

from gearshift.core.schema.ecma import PatternError, translate
from gearshift.core.schema.node import Run

_DATE: Final = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})")
_TIME: Final = re.compile(r"([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.[0-9]+)?(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))")
_DAYS: Final = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_DURATION: Final = re.compile(
    r"P(?:[0-9]+W|(?=[0-9T])(?:[0-9]+Y(?:[0-9]+M(?:[0-9]+D)?)?|[0-9]+M(?:[0-9]+D)?|[0-9]+D)?"
    r"(?:T(?:[0-9]+H(?:[0-9]+M(?:[0-9]+S)?)?|[0-9]+M(?:[0-9]+S)?|[0-9]+S))?)"
)
_ATOM: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LOCAL_PART: Final = re.compile(rf'{_ATOM}(?:\.{_ATOM})*|"(?:[ !#-\[\]-~]|\\[ -~])*"')
_LABEL: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_UUID: Final = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_JSON_POINTER: Final = re.compile(r"(?:/(?:[^~/]|~[01])*)*")
_RELATIVE_POINTER: Final = re.compile(r"(?:0|[1-9][0-9]*)(?:#|(?:/(?:[^~/]|~[01])*)*)")
_URI_CHARS: Final = r"\-A-Za-z0-9._~!$&'()*+,;=:@/?"
_INTERNATIONAL: Final = "\xa0-\ud7ff\uf900-\ufdcf\ufdf0-\uffef\U00010000-\U000efffd"
_TEMPLATE_NAME: Final = r"(?:[A-Za-z0-9_]|%[0-9A-Fa-f]{2})+"
_TEMPLATE_VARIABLE: Final = rf"{_TEMPLATE_NAME}(?:\.{_TEMPLATE_NAME})*(?::[1-9][0-9]{{0,3}}|\*)?"
_TEMPLATE: Final = re.compile(
    rf"""(?:[^\x00-\x20\x7f"%<>\\^`{{|}}]|%[0-9A-Fa-f]{{2}}"""
    rf"|\{{[+#./;?&=,!@|]?{_TEMPLATE_VARIABLE}(?:,{_TEMPLATE_VARIABLE})*\}})*"
)
_FUTURE_IP: Final = re.compile(r"[vV][0-9A-Fa-f]+\.[A-Za-z0-9._~!$&'()*+,;=:-]+")


def format_rule(name: str) -> Callable[[str, Run], bool] | None:
    """Return the rule of a format, or None when it is not one that is checked."""
    accepts = _RULES.get(name)
    if accepts is None:
        return None

    def checked(text: str, run: Run) -> bool:
        run.spend(1 + (len(text) >> 4))
        return accepts(text)

    return checked


def _date(text: str) -> bool:
    parts = _DATE.fullmatch(text)
    if parts is None:
        return False
    year, month, day = (int(part) for part in parts.groups())
    if not 1 <= month <= 12 or not 1 <= day <= _DAYS[month - 1]:
        return False
    is_leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return is_leap or (month, day) != (2, 29)


def _time(text: str) -> bool:
    parts = _TIME.fullmatch(text)
    if parts is None:
        return False
    hour, minute, second = int(parts[1]), int(parts[2]), int(parts[3])
    offset_hour, offset_minute = int(parts[5] or 0), int(parts[6] or 0)
    if hour > 23 or minute > 59 or second > 60 or offset_hour > 23 or offset_minute > 59:
        return False
    if second < 60:
        return True
    offset = offset_hour * 60 + offset_minute  # a leap second is the last of a day in UTC
    return (hour * 60 + minute + (offset if parts[4] == "-" else -offset)) % 1440 == 1439


def _date_time(text: str) -> bool:
    return len(text) > 10 and text[10] in "Tt" and _date(text[:10]) and _time(text[11:])


def _duration(text: str) -> bool:
    return len(text) > 2 and _DURATION.fullmatch(text) is not None and not text.endswith("T")


def _email(text: str) -> bool:
    local, at, domain = text.rpartition("@")
    if not at or _LOCAL_PART.fullmatch(local) is None:
        return False
    if domain.startswith("[") and domain.endswith("]"):
        literal = domain[1:-1]
        return _ipv6(literal[5:]) if literal.startswith("IPv6:") else _ipv4(literal)
    return _hostname(domain)


def _international_email(text: str) -> bool:
    local, at, domain = text.rpartition("@")
    plain = "".join(char if char.isascii() else "x" for char in local)
    return bool(at) and (_email(f"{plain}@{domain}") or (_LOCAL_PART.fullmatch(plain) is not None and "." in domain))


def _hostname(text: str) -> bool:
    return 0 < len(text) <= 253 and all(_LABEL.fullmatch(label) and _is_plain(label) for label in text.split("."))


def _is_plain(label: str) -> bool:
    """Refuse labels with hyphens in places 3 and 4, except those that carry valid punycode."""
    if label[2:4] != "--":
        return True
    if label[:2].lower() != "xn":
        return False
    try:
        return not label[4:].encode().decode("punycode").isascii()
    except UnicodeError:
        return False


def _ipv4(text: str) -> bool:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return text.isascii()


def _ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return text.isascii() and "%" not in text


def _uri_like(*, absolute: bool, international: bool) -> Callable[[str], bool]:
    extra = _INTERNATIONAL if international else ""
    private = "\ue000-\uf8ff\U000f0000-\U000ffffd\U00100000-\U0010fffd" if international else ""
    escaped = "%[0-9A-Fa-f]{2}"
    path = rf"(?:[{_URI_CHARS.replace('?', '')}{extra}]|{escaped})*"
    more = rf"(?:[{_URI_CHARS}{extra}{private}]|{escaped})*"
    whole = re.compile(
        rf"(?:(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):)?(?P<authority>//[^/?#]*)?(?P<path>{path})(?:\?{more})?(?:\#{more})?"
    )
    authority = re.compile(
        rf"//(?:(?:[A-Za-z0-9._~!$&'()*+,;=:{extra}-]|{escaped})*@)?"
        rf"(?P<host>\[[^\]]*\]|(?:[A-Za-z0-9._~!$&'()*+,;={extra}-]|{escaped})*)(?::(?P<port>[0-9]*))?"
    )

    def accepts(text: str) -> bool:
        parts = whole.fullmatch(text)
        if parts is None or (absolute and parts["scheme"] is None):
            return False
        if parts["authority"] is None:
            first = parts["path"].partition("/")[0]
            return not parts["path"].startswith("//") and (parts["scheme"] is not None or ":" not in first)
        place = authority.fullmatch(parts["authority"])
        if place is None or (parts["path"] and not parts["path"].startswith("/")):
            return False
        host = place["host"]
        if host.startswith("["):
            return _ipv6(host[1:-1]) or _FUTURE_IP.fullmatch(host[1:-1]) is not None
        return True

    return accepts


def _regex(text: str) -> bool:
    try:
        translate(text)
    except PatternError as error:
        # Valid in ECMA-262, though not something that can be matched here.
        return "linear time" in str(error)
    return True


def _full(pattern: re.Pattern[str]) -> Callable[[str], bool]:
    def accepts(text: str) -> bool:
        return pattern.fullmatch(text) is not None

    return accepts


_RULES: Final[Mapping[str, Callable[[str], bool]]] = {
    "date": _date,
    "time": _time,
    "date-time": _date_time,
    "duration": _duration,
    "email": _email,
    "idn-email": _international_email,
    "hostname": _hostname,
    "ipv4": _ipv4,
    "ipv6": _ipv6,
    "uri": _uri_like(absolute=True, international=False),
    "uri-reference": _uri_like(absolute=False, international=False),
    "iri": _uri_like(absolute=True, international=True),
    "iri-reference": _uri_like(absolute=False, international=True),
    "uri-template": _full(_TEMPLATE),
    "uuid": _full(_UUID),
    "json-pointer": _full(_JSON_POINTER),
    "relative-json-pointer": _full(_RELATIVE_POINTER),
    "regex": _regex,
}
