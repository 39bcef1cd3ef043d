#!/usr/bin/env python3
"""Writes golden.json: texts, and what TorchServe's TextClassifier makes of each.

Run it with torch, PyYAML and TorchServe's Python package on the path:

    PYTHONPATH=site-packages/of/torchserve python3 golden.py

Each row is [text, words], and for the first ones the n-grams besides; a text on which TorchServe raises is left out.
"""

import json
import random
import sys
import types
from pathlib import Path

# The handler needs captum only to explain.
captum = types.ModuleType("captum.attr")
captum.LayerIntegratedGradients = captum.TokenReferenceBase = object
sys.modules["captum"] = types.ModuleType("captum")
sys.modules["captum.attr"] = captum

from ts.torch_handler.contractions import CONTRACTION_MAP  # noqa: E402
from ts.torch_handler.text_classifier import TextClassifier  # noqa: E402


class Recorder:
    """A vocabulary that knows every token and remembers what it was asked."""

    def __init__(self):
        self.asked = []

    def __getitem__(self, token):
        self.asked.append(token)
        return len(self.asked)


def row(text):
    handler = TextClassifier()
    handler.device = "cpu"
    handler.source_vocab = Recorder()
    _, words = handler.preprocess([{"data": text.encode()}])
    return [text, words, handler.source_vocab.asked]


NASTY = [
    "The quick brown fox jumps over the lazy dog.",
    "one",
    "",
    " \t\n\r\v\f ",
    "\x1c\x1d\x1e\x1f",
    "a\x1cb\x1dc\x1ed\x1fe\x0bf\x0cg",
    "a\x85b\u00a0c\u2003d\u2028e\u3000f\ufefff\u200bg",
    "<b>bold</b> and <i\nnot a tag> but <i>this</i>",
    "a < b and b > c, 1 <2> 3 <<<x>>> y",
    "< no end",
    "no start >",
    "<",
    "a<>b",
    "&amp; &AMP; &lt;p&gt; &#39; &#0000039; &#x27; &#X27; &#x0000027; &#1234567; &; &a b; &#; &#x;",
    "fish&chips; &amp&amp; &&amp;;",
    "<p>&quot;It's &amp; that's&quot;</p>",
    "Don't won't can't ain't shan't sha'n't",
    "I'd've y'all'd've couldn't've how'd'y he'll've",
    "I'D'VE DON'T CAN'T'VE",
    "captain't said she'd shed the shepherd's o'clock",
    "'Cause ma'am, o'clock isn't ours; Y'ALL",
    "rock 'n' roll, '''quotes''' and `ticks`",
    "it’s a curly apostrophe, ‘so it isn’t one",
    "It&#39;s gone with the entity",
    "do<b>n't</b> split",
    "it\u2019s I\uff07m \uff29\uff07\uff4d",
    "don't.can't,won't",
    "he's she's it's let's so's there's that's what's when's where's who's why's how's",
    "to've they've we've you've i've could've might've must've should've would've will've",
    "I'm I'll I've i'd we're what're they're you're y'all're",
    "Café naïve résumé coöperate Ångström ŒUVRE straße ﬁne ﬂuﬀ",
    "\u0130stanbul \u0131s \u1e9e \u01c5 \u01f0 \u0149 \u2126 \u212a\u212b",
    "ΑΣ ΣΑΣ Σ ΑΣΑ ὈΔΥΣΣΕΎΣ, ΑΣ'Σ",
    "½ cup, x² + y³ = ①②③ ™ ℡ ㎏ ㎥ Ⅷ ⅷ ℌ 𝓗𝔢𝕝𝖑𝗼 ＡＢＣ１２３",
    "日本語 text 한국어 русский עברית العربية",
    "emoji 😀 between 👩‍👩‍👧 words",
    "e\u0301 a\u0308 combining",
    "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~",
    "a!b\"c#d$e%f&g'h(i)j*k+l,m-n.o/p:q;r<s=t>u?v@w[x\\y]z^a_b`c{d|e}f~g",
    "well-known e-mail me@example.com http://example.com/a?b=c#d",
    "3.14 1,000 $5 50% #tag @name",
    "line one\nline two\r\nline three",
    "br<br />br<br>br<br/>br",
    "\x00nul\x00 \x7fdel\x08bs",
    "Ġword ĠĠ two",
    "UPPER lower MiXeD",
    "a  b\t\tc\n\nd",
    "😀",
    "...",
    "'",
    "don't",
    "Wall St. Bears Claw Back Into the Black (Reuters) Reuters - Short-sellers, Wall Street's dwindling band of ultra-cynics, are seeing green again.",
]

ATOMS = (
    list(CONTRACTION_MAP)
    + [key.upper() for key in CONTRACTION_MAP]
    + [key.capitalize() for key in CONTRACTION_MAP]
    + ["<", ">", "<b>", "</b>", "&", ";", "&amp;", "&#39;", "#", "\n", " ", "  ", "'", '"', ".", ",", "(", ")"]
    + ["!", "?", ":", "é", "Ⅷ", "Σ", "ΑΣ", "ǅ", "ﬁ", "İ", "ß", "½", "\u00a0", "\u2028", "\x1c", "\v", "the", "of", "Cat", "x1"]
)


def generated(count):
    """The same each time."""
    dice = random.Random(20)
    for _ in range(count):
        yield "".join(
            dice.choice(ATOMS) + dice.choice(["", "", " "]) for _ in range(dice.randrange(1, 14))
        )


def characters():
    """Each character below 0x30000 that leaves ASCII behind, twelve to a text."""
    kept = [chr(code) for code in range(1, 0x30000) if not 0xD800 <= code < 0xE000 and row("x" + chr(code) + "y")[1] != ["xy"]]
    for start in range(0, len(kept), 12):
        yield " ".join(f"x{character}y" for character in kept[start : start + 12])


rows = []
for index, text in enumerate([*NASTY, *(f"a {key} b {key.upper()}" for key in CONTRACTION_MAP), *generated(150), *characters()]):
    try:
        rows.append(row(text)[: 3 if index < len(NASTY) else 2])
    except TypeError as error:
        print(f"left out {text!r}: {error}")
lines = ",\n".join(json.dumps(row) for row in rows)
Path(__file__).with_name("golden.json").write_text(f"[\n{lines}\n]\n")
print(len(rows), "rows")
