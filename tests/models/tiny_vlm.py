"""Random checkpoints of real architectures, small enough for a test, loaded like published ones."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

hf: Any = transformers  # its hints for configurations do not know what they take
WIDTH = 64
VOCABULARY = 700
QWEN = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
SENTENCES = [
    "The robot was told to put the red cube on the blue pad and to open the drawer.",
    "Has it done so? True False yes no Yes No. Progress: 0 10 20 30 40 50 60 70 80 90 100 percent",
    "Compare the first image with the second image and say which one is closer to the goal.",
    '{"completion_progress": 0.5} ANSWER: 1 2 3 4 5 <score>+10%</score> Image A Image B',
]
TEMPLATE = (
    "{% for turn in messages %}<|im_start|>{{ turn.role }}\n"
    "{% for part in turn.content %}"
    "{% if part.type == 'image' %}PICTURE{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tokenizer(signs: list[str], *, picture: str, named: dict[str, str] | None = None) -> Any:
    """A byte-level tokenizer trained on a few sentences."""
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>", *signs],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(SENTENCES * 3, trainer)
    fast = hf.PreTrainedTokenizerFast(
        tokenizer_object=made,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=named or {},
    )
    fast.chat_template = TEMPLATE.replace("PICTURE", picture)
    return fast


def text_config(words: Any, **others: Any) -> dict[str, Any]:
    config = {
        "vocab_size": len(words),
        "hidden_size": WIDTH,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "eos_token_id": words.eos_token_id,
        "pad_token_id": words.pad_token_id,
    }
    return {**config, **others}


def signs_of_qwen(words: Any) -> dict[str, int]:
    names = ("vision_start", "vision_end", "image", "video")
    return {
        f"{name}_token_id": words.convert_tokens_to_ids(token)
        for name, token in zip(names, QWEN, strict=True)
    }


def qwen_pictures(patch: int) -> Any:
    side = 2 * patch
    return Qwen2VLImageProcessorPil(
        patch_size=patch,
        merge_size=2,
        temporal_patch_size=2,
        size={"shortest_edge": side**2, "longest_edge": 16 * side**2},
    )


def rope(*, interleaved: bool = False) -> dict[str, Any]:
    made: dict[str, Any] = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 2, 2]}
    return {**made, "mrope_interleaved": True} if interleaved else made


def qwen3_vl() -> tuple[Any, Any, Any]:
    words = tokenizer(QWEN, picture="<|vision_start|><|image_pad|><|vision_end|>")
    config = hf.Qwen3VLConfig(
        text_config=text_config(words, head_dim=16, rope_parameters=rope(interleaved=True)),
        vision_config={
            "depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2,
            "out_hidden_size": WIDTH, "patch_size": 16, "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0, 1],
        },
        **signs_of_qwen(words),
    )  # fmt: skip
    return hf.Qwen3VLForConditionalGeneration(config), words, qwen_pictures(16)


def qwen2_5_vl() -> tuple[Any, Any, Any]:
    words = tokenizer(QWEN, picture="<|vision_start|><|image_pad|><|vision_end|>")
    config = hf.Qwen2_5_VLConfig(
        text_config=text_config(words, rope_parameters=rope()),
        vision_config={
            "depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2,
            "out_hidden_size": WIDTH, "patch_size": 14, "fullatt_block_indexes": [1],
            "window_size": 56,
        },
        **signs_of_qwen(words),
    )  # fmt: skip
    return hf.Qwen2_5_VLForConditionalGeneration(config), words, qwen_pictures(14)


def qwen2_vl() -> tuple[Any, Any, Any]:
    words = tokenizer(QWEN, picture="<|vision_start|><|image_pad|><|vision_end|>")
    config = hf.Qwen2VLConfig(
        text_config=text_config(words, rope_parameters=rope()),
        vision_config={
            "depth": 2, "embed_dim": 32, "hidden_size": WIDTH, "num_heads": 2, "mlp_ratio": 2,
            "patch_size": 14,
        },
        **signs_of_qwen(words),
    )  # fmt: skip
    return hf.Qwen2VLForConditionalGeneration(config), words, qwen_pictures(14)


def internvl() -> tuple[Any, Any, Any]:
    named = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    words = tokenizer(list(named.values()), picture="<IMG_CONTEXT>\n", named=named)
    config = hf.InternVLConfig(
        text_config={"model_type": "qwen2", **text_config(words)},
        vision_config={
            "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
            "intermediate_size": 64, "image_size": 56, "patch_size": 14,
        },
        image_token_id=words.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
    )  # fmt: skip
    pictures = GotOcr2ImageProcessorPil(size={"height": 56, "width": 56}, crop_to_patches=True)
    return hf.InternVLForConditionalGeneration(config), words, pictures


def smolvlm() -> tuple[Any, Any, Any]:
    signs = ["<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>"]
    words = tokenizer(signs, picture="<image>")
    config = hf.SmolVLMConfig(
        text_config={"model_type": "llama", **text_config(words)},
        vision_config={
            "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
            "intermediate_size": 64, "image_size": 64, "patch_size": 16,
        },
        image_token_id=words.convert_tokens_to_ids("<image>"),
        scale_factor=2,
    )  # fmt: skip
    pictures = SmolVLMImageProcessorPil(
        size={"longest_edge": 128}, max_image_size={"longest_edge": 64}, do_image_splitting=True
    )
    return hf.SmolVLMForConditionalGeneration(config), words, pictures


MAKERS: dict[str, Callable[[], tuple[Any, Any, Any]]] = {
    "qwen3_vl": qwen3_vl,
    "qwen2_5_vl": qwen2_5_vl,
    "qwen2_vl": qwen2_vl,
    "internvl": internvl,
    "smolvlm": smolvlm,
}


def build(kind: str, folder: Path) -> Path:
    """Write a checkpoint of random weights; the same ones every time."""
    state = torch.random.get_rng_state(), random.getstate()
    torch.manual_seed(0)
    model, words, pictures = MAKERS[kind]()
    # Larger than at the start of training: pictures and words must make a visible difference.
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.mul_(3.0)
    model.eval().save_pretrained(folder)
    words.save_pretrained(folder)
    pictures.save_pretrained(folder)
    torch.random.set_rng_state(state[0])
    random.setstate(state[1])
    return folder


def build_robometer(base: Path, folder: Path) -> Path:
    """Write what LeRobot's Robometer looks like: a wrapped backbone, heads, no tokenizer."""
    import json

    from safetensors.torch import save_file

    model = hf.AutoModelForImageTextToText.from_pretrained(base)
    words = hf.AutoTokenizer.from_pretrained(base)
    state = torch.random.get_rng_state()
    torch.manual_seed(1)
    model.resize_token_embeddings(len(words) + 5)
    weights = {f"model.{name}": weight.clone() for name, weight in model.state_dict().items()}
    for name, size in (("progress", 10), ("success", 1), ("preference", 1)):
        head = torch.nn.Sequential(
            torch.nn.Linear(WIDTH, WIDTH // 2),
            torch.nn.LayerNorm(WIDTH // 2),
            torch.nn.GELU(),
            torch.nn.Dropout(),
            torch.nn.Linear(WIDTH // 2, size),
        )
        weights.update({f"{name}_head.{key}": value for key, value in head.state_dict().items()})
    torch.random.set_rng_state(state)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / "model.safetensors")
    config = {
        "type": "robometer",
        "base_model_id": str(base),
        "progress_discrete_bins": 10,
        "vlm_config": model.config.to_dict(),
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def build_rynnvalue(base: Path, folder: Path) -> Path:
    """Write what RynnValue looks like: a Qwen3-VL of another name, heads, query tokens."""
    import json

    from safetensors.torch import save_file

    model = hf.AutoModelForImageTextToText.from_pretrained(base)
    words = hf.AutoTokenizer.from_pretrained(base)
    words.add_special_tokens({"additional_special_tokens": ["<value>", "<relative_value>"]})
    state = torch.random.get_rng_state()
    torch.manual_seed(2)
    model.resize_token_embeddings(len(words))
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    for number in range(2):
        parts: dict[str, torch.nn.Module] = {
            "input_layer": torch.nn.Linear(3 * WIDTH, 16),
            "input_norm": torch.nn.LayerNorm(16),
            "blocks.0.fc1": torch.nn.Linear(16, 16),
            "blocks.0.ln1": torch.nn.LayerNorm(16),
            "blocks.0.fc2": torch.nn.Linear(16, 16),
            "blocks.0.ln2": torch.nn.LayerNorm(16),
            "final_layer": torch.nn.Linear(16, 32),
        }
        for name, part in parts.items():
            for key, value in part.state_dict().items():
                weights[f"value_heads.{number}.proj.{name}.{key}"] = value.clone()
    torch.random.set_rng_state(state)
    folder.mkdir(parents=True, exist_ok=True)
    words.save_pretrained(folder)
    hf.AutoImageProcessor.from_pretrained(base, backend="pil").save_pretrained(folder)
    save_file(weights, folder / "model.safetensors")
    config = {
        **model.config.to_dict(),
        "model_type": "rynn_value_lang",
        "attn_implementation": "pred_slot_isolated_eager",
        "value_tokenizer_config": {
            "bins": 32, "min_value": 0.0, "max_value": 512.0, "support_transform": "symlog"
        },
        "value_head_config": {"head_type": "bro", "activation": "relu"},
        "num_value_heads": 2,
        "value_token_repeat": 3,
        "relative_value_token_repeat": 3,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    return folder
