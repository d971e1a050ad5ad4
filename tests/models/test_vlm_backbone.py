"""Backbones of five architectures: pictures seen once, prompts read once, same numbers always."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from robo_reward.errors import ConfigError, InstructionError, OutOfMemoryError  # noqa: E402
from robo_reward.models.vlm.backbone import Backbone  # noqa: E402
from robo_reward.models.vlm.families import FAMILIES  # noqa: E402
from robo_reward.models.vlm.options import VlmOptions  # noqa: E402
from robo_reward.models.vlm.passage import Passage, Picture  # noqa: E402

from .tiny_vlm import MAKERS  # noqa: E402

Tiny = Callable[[str], Path]

KINDS = sorted(MAKERS)
ANSWERS = [str(number) for number in range(0, 101, 10)]
chance = np.random.default_rng(0)
IMAGES = [chance.integers(0, 256, (48, 64, 3), np.uint8) for _ in range(3)]
IMAGES.append(chance.integers(0, 256, (70, 40, 3), np.uint8))


def load(tiny: Tiny, kind: str, **options: Any) -> Backbone:
    settings = VlmOptions(checkpoint=str(tiny(kind)), **options)
    return Backbone.find(settings, default="", model="test", device="cpu", kinds=list(FAMILIES))


def pictures(backbone: Backbone) -> list[Picture]:
    return [Picture(key=str(i), seen=seen) for i, seen in enumerate(backbone.see(IMAGES))]


def passages(backbone: Backbone) -> list[Passage]:
    """An episode that grows, and another one."""
    shown = pictures(backbone)
    clips = [[0], [0, 1], [0, 1, 2], [3, 0]]
    said = ["the red cube"] * 3 + ["open the drawer"]
    return [
        backbone.writer.write([("user", [*(shown[i] for i in clip), text])])
        for clip, text in zip(clips, said, strict=True)
    ]


def weigh(backbone: Backbone, asked: Sequence[Passage]) -> np.ndarray[Any, Any]:
    tails = backbone.writer.tails(ANSWERS, opening="Progress: ", closing="%")
    return np.stack(backbone.weigh(asked, [tails] * len(asked)))


@pytest.mark.parametrize("kind", KINDS)
def test_known_features_give_what_pixels_give(kind: str, tiny: Tiny) -> None:
    backbone = load(tiny, kind)
    backbone.reuse = False
    asked = passages(backbone)[2]
    (states,) = backbone.read([asked])
    made = backbone.processor(
        images=[[image] for image in IMAGES[:3]] if backbone.family.nested else IMAGES[:3],
        input_data_format="channels_last",
        return_tensors="pt",
        **backbone.family.preprocessing,
    )
    names = ("pixel_values", "pixel_attention_mask", "image_grid_thw")
    pixels = {name: made[name] for name in names if name in made}
    if kind.startswith("qwen"):
        kinds = torch.zeros((1, len(asked)), dtype=torch.int32)
        kinds[0, torch.tensor(asked.tokens) == backbone.model.config.image_token_id] = 1
        pixels["mm_token_type_ids"] = kinds
    with torch.inference_mode():
        ids = torch.tensor([asked.tokens])
        plain = backbone.model(input_ids=ids, attention_mask=torch.ones_like(ids), **pixels)
        ours = backbone.model.get_output_embeddings()(states)
    np.testing.assert_allclose(ours[0].numpy(), plain.logits[0, -1].numpy(), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_sharing_changes_no_number(kind: str, tiny: Tiny) -> None:
    backbone, alone = load(tiny, kind), load(tiny, kind, reuse=False)
    asked = passages(backbone)
    wanted = weigh(alone, asked)
    assert wanted.std(axis=1).min() > 0.1
    assert np.abs(np.diff(wanted, axis=0)).max() > 1e-3  # pictures and words are read
    # Together, then from the cache, then one by one as an episode goes on.
    np.testing.assert_allclose(weigh(backbone, asked), wanted, atol=1e-4)
    read = backbone.read_tokens
    assert read < alone.read_tokens / 4
    np.testing.assert_allclose(weigh(backbone, asked[::-1]), wanted[::-1], atol=1e-4)
    online = load(tiny, kind)
    for passage, want in zip(asked, wanted, strict=True):
        np.testing.assert_allclose(weigh(online, [passage])[0], want, atol=1e-4)
    assert online.read_tokens < alone.read_tokens / 4


@pytest.mark.parametrize("kind", ["qwen3_vl", "smolvlm"])
def test_a_batch_generates_what_each_alone_would(kind: str, tiny: Tiny) -> None:
    backbone = load(tiny, kind)
    asked = passages(backbone)
    together = backbone.generate(asked, tokens=6)
    assert together == [backbone.generate([passage], tokens=6)[0] for passage in asked]
    assert len(set(together)) > 1


PROCESSORS = {
    "qwen3_vl": ("Qwen3VLProcessor", {}),
    "qwen2_5_vl": ("Qwen2_5_VLProcessor", {}),
    "internvl": ("InternVLProcessor", {"image_seq_length": 4}),
}


@pytest.mark.parametrize("kind", sorted(PROCESSORS))
def test_prompts_have_the_tokens_of_the_published_processor(kind: str, tiny: Tiny) -> None:
    name, given = PROCESSORS[kind]
    published: Any = getattr(transformers, name)

    class ImagesOnly(published):  # type: ignore[misc]
        """Without the part for videos, which needs torchvision."""

        def __init__(self, image_processor: Any, tokenizer: Any, chat_template: str) -> None:
            published.__init__(
                self, image_processor, tokenizer, None, chat_template=chat_template, **given
            )

    backbone = load(tiny, kind)
    writer = backbone.writer
    processor = ImagesOnly(backbone.processor, writer.tokenizer, writer.tokenizer.chat_template)
    content = [{"type": "image"}, {"type": "image"}, {"type": "text", "text": "the red cube"}]
    text = writer.tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    made = processor(
        text=[text],
        images=[IMAGES[:2]],
        input_data_format="channels_last",
        **backbone.family.preprocessing,
    )
    assert passages(backbone)[1].tokens == list(made["input_ids"][0])


def test_one_picture_is_two_tokens_or_more_and_no_text_is_one(tiny: Tiny) -> None:
    backbone = load(tiny, "qwen3_vl")
    (passage,) = passages(backbone)[:1]
    (start,) = passage.pictures
    count = passage.pictures[start].seen.tokens.shape[0]
    assert len(set(passage.symbols[start : start + count])) == count
    assert min(passage.symbols[start : start + count]) > len(backbone.writer.tokenizer)
    backbone.writer.check("put the red cube on the blue pad, then <wait>")
    with pytest.raises(InstructionError, match=r"<\|image_pad\|>"):
        backbone.writer.check("push <|image_pad|> away")


def test_answers_that_begin_another_end_with_the_turn(tiny: Tiny) -> None:
    writer = load(tiny, "qwen3_vl").writer
    assert {tail[-1] for tail in writer.tails(["7", "77"], opening="", closing="")} == {writer.end}
    ends = {tail[-1] for tail in writer.tails(["yes", "no"], opening="", closing="")}
    assert writer.end not in ends


def test_a_checkpoint_without_chat_template_wants_a_raw_prompt(tiny: Tiny) -> None:
    backbone = load(tiny, "qwen3_vl")
    backbone.writer.tokenizer.chat_template = None
    with pytest.raises(ConfigError, match=r"no chat template; use a prompt with \[raw\]"):
        backbone.writer.write([("user", ["hello"])])
    raw = backbone.writer.write([("raw", [pictures(backbone)[0], "hello"])])
    signs = [backbone.writer.tokenizer.convert_ids_to_tokens(t) for t in raw.tokens[:2]]
    assert signs == ["<|vision_start|>", "<|image_pad|>"]


class Small:
    """A stand-in for the text model's forward pass that has room for ``room`` rows."""

    def __init__(self, inner: Any, room: int) -> None:
        self.inner, self.room, self.tried = inner, room, list[int]()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        rows = len(kwargs["input_ids"])
        self.tried.append(rows)
        if rows > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.inner(*args, **kwargs)


def test_batches_are_halved_where_memory_ends(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = load(tiny, "internvl", reuse=False, batch=8)
    shown = pictures(backbone)
    asked = [backbone.writer.write([("user", [shown[i % 4], str(i)])]) for i in range(8)]
    wanted = torch.stack(backbone.read(asked))
    small = Small(backbone.model.model.forward, room=2)
    monkeypatch.setattr(backbone.model.model, "forward", small)
    got = torch.stack(backbone.read(asked))
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=0)
    assert small.tried == [8, 4, 2, 2, 2, 2]
    backbone.read(asked[:4])
    assert small.tried[6:] == [2, 2]  # it has learnt
    small.room = 0
    with pytest.raises(OutOfMemoryError, match="no memory for one query"):
        backbone.read(asked[:1])


def test_half_precision_runs(tiny: Tiny) -> None:
    backbone = load(tiny, "qwen3_vl", dtype="bfloat16", attention="eager")
    assert backbone.model.dtype == torch.bfloat16
    wanted = weigh(load(tiny, "qwen3_vl"), passages(load(tiny, "qwen3_vl")))
    np.testing.assert_allclose(weigh(backbone, passages(backbone)), wanted, atol=0.5)


def test_frames_can_be_made_smaller(tiny: Tiny) -> None:
    large, small = load(tiny, "qwen3_vl"), load(tiny, "qwen3_vl", pixels=32 * 32)
    image = [np.zeros((200, 200, 3), np.uint8)]
    assert large.see(image)[0].tokens.shape[0] > small.see(image)[0].tokens.shape[0] == 1
    with pytest.raises(ConfigError, match="pictures of one size"):
        load(tiny, "internvl", pixels=32 * 32)
