#!/usr/bin/env python3
"""Writes the vocabularies that the tests read, in the forms in which they are found. Needs torch, and no torchtext.

    python3 vocabularies.py

Tokens: <unk> 0, hello 1, world 2, "hello world" 3, where a file's name says nothing else.
"""

import functools
import sys
import types
from collections import Counter, OrderedDict, defaultdict
from pathlib import Path

import torch

HERE = Path(__file__).parent
TOKENS = ["<unk>", "hello", "world", "hello world"]
INDICES = {token: index for index, token in enumerate(TOKENS)}
KNOWN = {token: index for token, index in INDICES.items() if index}


def save(name, value, **how):
    torch.save(value, HERE / f"{name}.pt", **how)


def module(name):
    """An empty module, and those above it."""
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        sys.modules.setdefault(".".join(parts[:count]), types.ModuleType(".".join(parts[:count])))
    return sys.modules[name]


def belongs(to, name=None):
    """Makes pickle find a class or function under torchtext's name."""

    def move(thing):
        thing.__module__ = to
        thing.__name__ = thing.__qualname__ = name or thing.__name__
        setattr(module(to), thing.__name__, thing)
        return thing

    return move


# torchtext 0.9 and later: a module that holds an object of C++, whose state pybind11 hands over.
@belongs("torchtext._torchtext", "Vocab")
class InnerVocab:
    def __init__(self, default):
        self.default = default

    def __getstate__(self):
        return ("0.0.2", self.default, TOKENS, [])


@belongs("torchtext.vocab.vocab", "Vocab")
class Vocab(torch.nn.Module):
    def __init__(self, vocab):
        super().__init__()
        self.vocab = vocab


@belongs("torchtext.vocab", "Vocab")
class OldVocab:
    """torchtext before 0.9, where the module's class has the same name."""

    def __init__(self):
        self.freqs = Counter(TOKENS[1:])
        self.itos = TOKENS
        self.unk_index = 0
        self.stoi = defaultdict(self._default_unk_index, INDICES)
        self.vectors = torch.zeros(2, 2)

    def _default_unk_index(self):
        return self.unk_index

    def __getstate__(self):
        return {**self.__dict__, "stoi": dict(self.stoi)}


@belongs("torchtext.vocab")
def _default_unk_index():
    return 0


@belongs("some.code")
def forty_two():
    return 42


@belongs("some.code")
class Dictionary:
    def __init__(self):
        self.word2idx = INDICES
        self.idx2word = TOKENS


@belongs("some.code")
class Slots:
    def __init__(self):
        self.itos = TOKENS


@belongs("some.code")
class Words(dict):
    pass


@belongs("some.code")
class Stranger:
    def __init__(self):
        self.words = INDICES


save("dict", INDICES)
save("dict_without_unknown", KNOWN)
save("dict_protocol4", INDICES, pickle_protocol=4)
save("dict_legacy", INDICES, _use_new_zipfile_serialization=False)
save("dict_legacy_protocol4", INDICES, _use_new_zipfile_serialization=False, pickle_protocol=4)
# The directory's first entry is then as long as the end that PyTorch writes for large zips.
save("dict_named_21_letters", INDICES)
save("ordered_dict", OrderedDict(INDICES))
save("default_dict_int", defaultdict(int, KNOWN))
save("default_dict_none", defaultdict(None, KNOWN))
save("default_dict_partial", defaultdict(functools.partial(int, 3), KNOWN))
save("default_dict_torchtext", defaultdict(_default_unk_index, KNOWN))
save("default_dict_function", defaultdict(forty_two, KNOWN))
save("default_dict_function_unknown", defaultdict(forty_two, INDICES))
save("counter", Counter({**INDICES, "hello": 1}))
save("dict_subclass", Words(INDICES))
save("torchtext", Vocab(InnerVocab([2])))
save("torchtext_without_default", Vocab(InnerVocab([])))
save("torchtext_inner", InnerVocab([2]))
save("torchtext_old", OldVocab())
save("word2idx", Dictionary())
save("itos", Slots())
save("list", TOKENS)
# What is no vocabulary.
save("tensor", torch.zeros(2))
save("stranger", Stranger())
save("reversed", dict(enumerate(TOKENS)))
save("floats", {"hello": 0.5})
save("negative", {"hello": -1})
save("empty", {})
save("numbers", [1, 2])
