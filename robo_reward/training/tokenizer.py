"""The tokenizer of the compact model: byte-pair encoding learned on the grammar of instructions."""

from __future__ import annotations

from collections.abc import Iterator

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from robo_reward.envs.tabletop.instructions import (
    PAD_WORDS,
    PART_WORDS,
    SHAPE_WORDS,
    WORDINGS,
)
from robo_reward.envs.tabletop.spec import COLOURS


def train_tokenizer(vocabulary: int) -> Tokenizer:
    """Learn a tokenizer; id 0 is padding, id 1 unknown."""
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["[PAD]", "[UNK]"],
        initial_alphabet=list("abcdefghijklmnopqrstuvwxyz0123456789"),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_sentences(), trainer)
    return tokenizer


def _sentences() -> Iterator[str]:
    for colour in COLOURS:
        things = [f"{colour} {word}" for words in SHAPE_WORDS.values() for word in words]
        parts = [word.format(colour=colour) for words in PART_WORDS.values() for word in words]
        places = [f"{colour} {word}" for word in PAD_WORDS] + ["left", "right"]
        for wordings in WORDINGS.values():
            for wording in wordings:
                for thing, place in zip(things + parts, places * 3, strict=False):
                    yield wording.format(target=thing, place=place)
