"""Tiny random checkpoints with an image and a text tower, written as the published ones are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

SENTENCES = [
    "a robot that has finished this job: put the red cube on the blue pad",
    "a robot that has not begun with its job",
    "open the drawer with the red handle and lift the green cylinder from the table",
]
SPECIAL = ["<unk>", "<pad>", "<bos>", "<eos>"]
TOWER = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
         "num_attention_heads": 2}  # fmt: skip
IMAGE_SIZE, PATCH = 64, 16


def tiny_tokenizer() -> Any:
    """A byte-level BPE, trained on a few sentences."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.train_from_iterator(
        SENTENCES,
        trainers.BpeTrainer(
            vocab_size=340,
            special_tokens=SPECIAL,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    made.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", 2), ("<eos>", 3)]
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=made, unk_token="<unk>", pad_token="<pad>", bos_token="<bos>",
        eos_token="<eos>",
    )  # fmt: skip


def tiny_clip(folder: Path) -> Path:
    """CLIP: pooled at the end of the sentence, projected, cut to a square."""
    import torch
    from transformers import CLIPConfig, CLIPModel
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    tokenizer = tiny_tokenizer()
    config = CLIPConfig(
        text_config={**TOWER, "vocab_size": len(tokenizer), "max_position_embeddings": 64,
                     "bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 1},
        vision_config={**TOWER, "image_size": IMAGE_SIZE, "patch_size": PATCH},
        projection_dim=24,
    )  # fmt: skip
    torch.manual_seed(0)
    CLIPModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    side = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    CLIPImageProcessorPil(size={"shortest_edge": IMAGE_SIZE}, crop_size=side).save_pretrained(
        folder
    )
    return folder


def tiny_siglip(folder: Path) -> Path:
    """SigLIP: sentences of one length, no projection."""
    import torch
    from transformers import SiglipConfig, SiglipModel
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    tokenizer = tiny_tokenizer()
    config = SiglipConfig(
        text_config={**TOWER, "vocab_size": len(tokenizer), "max_position_embeddings": 64,
                     "projection_size": 32, "bos_token_id": 2, "eos_token_id": 3,
                     "pad_token_id": 1},
        vision_config={**TOWER, "image_size": IMAGE_SIZE, "patch_size": PATCH},
    )  # fmt: skip
    torch.manual_seed(0)
    SiglipModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    side = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    SiglipImageProcessorPil(size=side).save_pretrained(folder)
    return folder


def tiny_siglip2(folder: Path) -> Path:
    """SigLIP 2 of any aspect ratio: patches in rows, with a mask and their shapes."""
    import torch
    from transformers import Siglip2Config, Siglip2Model
    from transformers.models.siglip2.image_processing_pil_siglip2 import Siglip2ImageProcessorPil

    tokenizer = tiny_tokenizer()
    config = Siglip2Config(
        text_config={**TOWER, "vocab_size": len(tokenizer), "max_position_embeddings": 64,
                     "projection_size": 32, "bos_token_id": 2, "eos_token_id": 3,
                     "pad_token_id": 1},
        vision_config={**TOWER, "num_patches": 16, "patch_size": PATCH},
    )  # fmt: skip
    torch.manual_seed(0)
    Siglip2Model(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    Siglip2ImageProcessorPil(patch_size=PATCH, max_num_patches=16).save_pretrained(folder)
    return folder


TOWERS: dict[str, Callable[[Path], Path]] = {
    "clip": tiny_clip,
    "siglip": tiny_siglip,
    "siglip2": tiny_siglip2,
}
