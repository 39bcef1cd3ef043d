"""Texts with all that TorchServe's text handler cleans away, and the vocabularies over them."""

import collections

from ts.handler_utils.text_utils import get_tokenizer
from ts.handler_utils.text_utils import ngrams_iterator

TEXTS = {
    "plain": "The bill was passed by the senate after a long night of talks",
    "capitals": "STOCKS Fell Sharply On Monday, As Oil Prices ROSE Again",
    "contractions": "I'd say they don't know what they're doing, and it's what we've seen; y'all can't win",
    "html": "<p>The team <b>won</b> its&nbsp;third&#160;match</p><br />against &quot;the champions&quot;",
    "accents": "Café owners in São Paulo and Zürich were naïve about the crème brûlée",
    "punctuation": "Wait... what?! (Really): yes -- 'quoted' and \"double\" @ 50% off; e-mail: a.b@c.org",
    "numbers": "In 2024 about 3,500 people ran 42.195 km at 9:30",
    "lines": "First line of the story\nsecond line\r\n\tthird   line  with   spaces\n",
    "curly": "\u2018Curly\u2019 \u201cquotes\u201d don\u2019t expand \u2013 nor do dashes\u2026",
    "other_scripts": "Space news: \u706b\u661f mission \U0001f680 reaches \u039c\u03b1\u03c1\u03c2 orbit",
    "one_word": "Sport",
    "repeated": "no no no no no no no no, it wasn't, it wasn't",
}

# Words that no vocabulary holds: only the one that counts them as 0 takes this text.
UNKNOWN = {"unknown": "The zyzzyva quokka was passed by a gnomon"}

LABELS = {"0": "World", "1": "Sports", "2": "Business", "3": "Sci/Tec"}


def tokens_of(handler, text):
    """What TorchServe's handler looks up for a text, through its own steps."""
    words = handler._remove_html_tags(text).lower()
    words = handler._remove_punctuation(handler._remove_accented_characters(handler._expand_contractions(words)))
    return list(ngrams_iterator(get_tokenizer("basic_english")(words), handler.ngrams))


def words(handler):
    """Every token and pair of TEXTS in order of appearance; 0 is kept for what is unknown."""
    known = {}
    for text in TEXTS.values():
        for token in tokens_of(handler, text):
            known.setdefault(token, len(known) + 1)
    return known


def vocabularies(known):
    """The mappings that torch.load takes since 2.6, where it reads nothing but plain containers."""
    return {
        "dict": dict(known),
        "ordered": collections.OrderedDict(known),
        "counter": collections.Counter(known),
    }
