"""Which languages an answer may be in, by what was asked.

Rules: an answer is expected in the language of the prompt. Any other is lawful once the prompt uses it (a few of its
words are enough), names it, or speaks of translating or of languages at all. In doubt it is lawful: a wrong verdict here
costs an escalation, a missed one a reader who must ask again.
"""

from __future__ import annotations

import re
from functools import cached_property

from gearshift.core.gates.language.scripts import scripts_of
from gearshift.core.gates.language.words import LANGUAGES_OF

_READ = 4000
"""Characters at either end that tell a prompt's language."""
_SEARCHED = 200_000
_LEAST_MARKERS = 4
_SHORT = 40
_FEW = 3

_PIECES = re.compile(r"[^\W\d_]+")
_LANGUAGES_AT_ALL = re.compile(
    r"translat|transcri|bilingual|multilingual|localiz|localis|"
    r"(?<!programming )(?<!natural )(?<!query )(?<!markup )(?<!body )(?<!large )(?<!figurative )(?<!ai )\blanguages?\b(?! model)|"
    r"übersetz|sprache|traduct|traduc|traduir|traduis|langue|idioma|tradur|lingua\b|traduz|vertaal|vertal|översätt|språk|"
    r"oversæt|oversett|sprog|przetłumacz|tłumacz|język|přelož|překlad|jazyk|traduce|limb[aă]|fordít|nyelv|käännä|kiel[ie]|"
    r"çevir|dil(?:i|de|e)\b|terjemah|bahasa|перев[оеё]|язык|мов[аиоу]|翻[译訳譯]|语言|語言|言語|번역|언어"
)
_NAMES = {
    "english": "english|englisch|anglais|inglés|ingles|engels|engelsk|angielsk|anglick|englez|angol|englan|ingiliz|inggris|"
    "англий|英语|英語|영어",
    "german": "german|deutsch|allemand|alemán|alemão|tedesco|duits|tysk|niemieck|németül|saksa|almanca|jerman|немец|德语|ドイツ",
    "french": "french|französisch|français|francés|francese|francês|frans|fransk|francusk|francouzsk|ranska|fransızca|"
    "prancis|quebec|québec|француз|法语|フランス",
    "spanish": "spanish|spanisch|espagnol|español|castellano|spagnol|espanhol|spaans|spansk|hiszpańsk|španěl|espanja|ispanyol|"
    "latin america|latino|испан|西班牙|スペイン",
    "italian": "italian|italien|italiano|italiaans|włosk|italsk|olasz|итальян|意大利|イタリア",
    "portuguese": "portug|brazil|brasil|португал|葡萄牙",
    "dutch": "dutch|niederländisch|holländisch|néerlandais|holand|nederlands|flemish|olandese|hollænd|голланд|荷兰",
    "swedish": "swed|svensk|schwed|suédois|sueco|svedese|zweeds|nordic|scandinav",
    "danish_norwegian": "danish|dansk|norw|norsk|norweg|dänisch|danois|danés|nordic|scandinav|bokm|nynorsk",
    "polish": "polish|polnisch|polonais|polaco|polacco|pools|polsk|польск",
    "czech": "czech|tschech|tchèque|checo|česk|slovak|slowak",
    "romanian": "roman|rumän|roumain|rumano|moldov",
    "hungarian": "hungar|ungar|hongrois|magyar",
    "finnish": "finnish|finnisch|finnois|finland|suom",
    "turkish": "turk|türk|turc",
    "indonesian": "indones|malay|bahasa",
    "greek": "greek|griech|grec|grieg",
    "cyrillic": "russ|ukrain|bulgar|serb|cyrillic|kyrill|kazakh|macedon|mongol|belarus|kyrgyz|tajik|русск|україн",
    "hebrew": "hebrew|hebrä|yiddish",
    "arabic": "arab|persian|farsi|urdu|pashto|dari|uyghur|kurd|quran",
    "indic": "hindi|bengal|tamil|telugu|marath|sanskrit|punjab|gujarat|kannada|malayalam|nepal|sinhal|odia|oriya|assam|devanagari|"
    "india|buddh|yoga|veda|vedic",
    "thai": "thai",
    "georgian": "georgia",
    "armenian": "armenia",
    "east_asian": "chinese|mandarin|cantonese|japan|korea|kanji|hanzi|hiragana|katakana|hangul|pinyin|china|taiwan|haiku|chines|"
    "chinois|giappon|coré",
    "latin": "english|french|german|spanish|italian|portug|latin|englisch|roman|англ|英语|英語|영어",
}


def reads_english(text: str) -> bool:
    """Tell, cheaply, whether a text holds English words that no other language has; if not, it may be English still."""
    # Written out: a generator costs more than the looks.
    return " the " in text or " of " in text or " and " in text or " with " in text


class Prompt:
    """What a prompt says of languages; read only as far as it is asked."""

    def __init__(self, text: str) -> None:
        self._text = text

    @cached_property
    def _markers(self) -> dict[tuple[str, ...], set[str]]:
        """The different words of the prompt that are common in some language, by the languages that have them."""
        text = self._text if len(self._text) <= 2 * _READ else f"{self._text[:_READ]} {self._text[-_READ:]}"
        found: dict[tuple[str, ...], set[str]] = {}
        words = _PIECES.findall(text.lower().replace("’", "'"))
        for word in words:
            if languages := LANGUAGES_OF.get(word):
                found.setdefault(languages, set()).add(word)
        return found

    @cached_property
    def _counts(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for languages, words in self._markers.items():
            for language in languages:
                counts[language] = counts.get(language, 0) + len(words)
        return counts

    @cached_property
    def main(self) -> str:
        """The language that most of it is in, or nothing when that is not clear."""
        if not self._counts:
            return ""
        best, *rest = sorted(self._counts, key=lambda language: -self._counts[language])
        if (
            any(self._between(best, other) < _LEAST_MARKERS for other in rest[:1])
            or self._counts[best] < _LEAST_MARKERS
        ):
            return ""
        return best

    def _between(self, language: str, other: str) -> int:
        """Count the different words that `language` has and `other` lacks."""
        return sum([len(words) for of, words in self._markers.items() if language in of and other not in of])

    def allows(self, language: str) -> bool:
        """Tell whether an answer in this language is lawful; unknown prompts allow every language."""
        main = self.main
        if not main or main == language:
            return True
        words = sum(map(len, self._markers.values()))
        if self._between(language, main) >= (1 if words < _SHORT / 4 else _FEW if words >= _SHORT else 2):
            return True
        return self._speaks_of(language)

    def allows_script(self, script: str) -> bool:
        """Tell whether an answer in this script is lawful."""
        if script == "other":
            return True
        shares = scripts_of(self._text[:_SEARCHED])
        if not shares or script in shares:
            return True
        return self._speaks_of(script)

    @cached_property
    def is_english(self) -> bool:
        """Whether an answer in English is lawful for certain; cheap to tell."""
        return reads_english(self._text) or self.allows("english")

    @cached_property
    def _lowered(self) -> str:
        return self._text[:_SEARCHED].lower()

    def _speaks_of(self, language: str) -> bool:
        lowered = self._lowered
        return _LANGUAGES_AT_ALL.search(lowered) is not None or re.search(_NAMES[language], lowered) is not None
