r"""The names that ECMA-262 gives to sets of characters, as RE2 knows them.

Rules: general categories by short and long name and alias (Unicode's
PropertyValueAliases), scripts by long name and the common short codes. What RE2
has no set for (`\p{Emoji}`, `\p{Alphabetic}`) is not here, and so refused by name.
"""

from typing import Final

DIGIT: Final = "0-9"
NOT_DIGIT: Final = r"\x{0}-/:-\x{10ffff}"
WORD: Final = "0-9A-Za-z_"
NOT_WORD: Final = r"\x{0}-/:-@\[-\^`\{-\x{10ffff}"
SPACE: Final = r"\t-\r \x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}\x{feff}"
NOT_SPACE: Final = (
    r"\x{0}-\x{8}\x{e}-\x{1f}!-\x{9f}\x{a1}-\x{167f}\x{1681}-\x{1fff}\x{200b}-\x{2027}\x{202a}-\x{202e}"
    r"\x{2030}-\x{205e}\x{2060}-\x{2fff}\x{3001}-\x{fefe}\x{ff00}-\x{10ffff}"
)
ANY: Final = r"\x{0}-\x{10ffff}"
NOT_LINE_END: Final = r"[^\n\r\x{2028}\x{2029}]"

_CATEGORIES: Final = """
C Other|Cc Control cntrl|Cf Format|Co Private_Use|L Letter|Ll Lowercase_Letter|Lm Modifier_Letter
|Lo Other_Letter|Lt Titlecase_Letter|Lu Uppercase_Letter|M Mark Combining_Mark|Mc Spacing_Mark|Me Enclosing_Mark
|Mn Nonspacing_Mark|N Number|Nd Decimal_Number digit|Nl Letter_Number|No Other_Number|P Punctuation punct
|Pc Connector_Punctuation|Pd Dash_Punctuation|Pe Close_Punctuation|Pf Final_Punctuation|Pi Initial_Punctuation
|Po Other_Punctuation|Ps Open_Punctuation|S Symbol|Sc Currency_Symbol|Sk Modifier_Symbol|Sm Math_Symbol
|So Other_Symbol|Z Separator|Zl Line_Separator|Zp Paragraph_Separator|Zs Space_Separator
"""
CATEGORIES: Final = {name: names.split()[0] for names in _CATEGORIES.split("|") for name in names.split()}

_SCRIPTS: Final = """
Arab Arabic|Armn Armenian|Beng Bengali|Bopo Bopomofo|Cans Canadian_Aboriginal|Cher Cherokee|Copt Coptic|Cyrl Cyrillic
|Deva Devanagari|Ethi Ethiopic|Geor Georgian|Grek Greek|Gujr Gujarati|Guru Gurmukhi|Hang Hangul|Hani Han|Hebr Hebrew
|Hira Hiragana|Kana Katakana|Khmr Khmer|Knda Kannada|Laoo Lao|Latn Latin|Mlym Malayalam|Mong Mongolian|Mymr Myanmar
|Orya Oriya|Sinh Sinhala|Syrc Syriac|Taml Tamil|Telu Telugu|Thaa Thaana|Thai Thai|Tibt Tibetan|Zinh Inherited
|Zyyy Common
"""
SCRIPTS: Final = {name: names.split()[-1] for names in _SCRIPTS.split("|") for name in names.split()}

BINARY: Final = {
    "Any": ANY,
    "ASCII": r"\x{0}-\x{7f}",
    "ASCII_Hex_Digit": "0-9A-Fa-f",
    "AHex": "0-9A-Fa-f",
    "White_Space": SPACE.replace(r"\x{feff}", r"\x{85}"),
    "space": SPACE.replace(r"\x{feff}", r"\x{85}"),
}
NOT_BINARY: Final = {
    "Any": "",
    "ASCII": r"\x{80}-\x{10ffff}",
    "ASCII_Hex_Digit": r"\x{0}-/:-@G-`g-\x{10ffff}",
    "AHex": r"\x{0}-/:-@G-`g-\x{10ffff}",
}
