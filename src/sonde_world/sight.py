"""A vision tower for the world's model, trained on small drawings and their captions.

After LLaVA (Liu et al. 2023, arXiv 2304.08485): a projector maps the tower's patches into the space of the language
model, which exists already, and all three are trained together on pictures, and on text so that nothing is forgotten.
The result is an ordinary `LlavaForConditionalGeneration` folder.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from sonde.artifacts import alone_in
from sonde.progress import Reporter, default_reporter
from sonde.remote import local_path
from sonde_world.pictures import MARK, SIZE, picture_document
from sonde_world.train import PAD, batches, padded, save_model, token_rows, world_model_folder

PATCH = 8
N_PATCHES = (SIZE // PATCH) ** 2
MIDDLE = 0.5
"""mean and deviation of the pixels' levels, which normalise them to the range -1 to 1"""


@dataclass(frozen=True, kw_only=True)
class SightConfig:
    """Settings of the training on pictures."""

    start: str = ""
    """a model of the world, as a folder or `world`, whose vision tower to go on from; without one, random weights"""
    pictures: int = 40_000
    """drawings to see, none twice"""
    batch: int = 48
    text_tokens: int = 1536
    """tokens of text that each step reads besides the pictures"""
    width: int = 96
    layers: int = 3
    lr: float = 1.5e-3
    """learning rate of tower and projector at the start; it decays linearly to zero"""
    text_lr: float = 3e-4
    """learning rate of the language model"""
    seed: int = 0


def make_network(
    text: LlamaForCausalLM, config: SightConfig, mark: Any, eyes: LlavaForConditionalGeneration | None = None
) -> LlavaForConditionalGeneration:
    """The language model with a vision tower of random weights, or with the tower of another model."""
    vision = CLIPVisionConfig(
        hidden_size=config.width,
        intermediate_size=3 * config.width,
        num_hidden_layers=config.layers,
        num_attention_heads=config.width // 32,
        image_size=SIZE,
        patch_size=PATCH,
    )
    if eyes is not None:
        vision = CLIPVisionConfig.from_dict(eyes.config.to_dict()["vision_config"] | {"dtype": None})
    text.config._name_or_path = ""  # a path of this machine
    combined = LlavaConfig(
        vision_config=vision,
        text_config=text.config,
        image_seq_length=N_PATCHES,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        tie_word_embeddings=True,
    )
    combined.image_token_id = mark
    network = LlavaForConditionalGeneration(combined)
    network.model.language_model.load_state_dict(text.model.state_dict())
    if eyes is not None:
        network.model.vision_tower.load_state_dict(eyes.model.vision_tower.state_dict())
        network.model.multi_modal_projector.load_state_dict(eyes.model.multi_modal_projector.state_dict())
    network.tie_weights()
    network.generation_config = text.generation_config
    return network


def make_processor(tokenizer: PreTrainedTokenizerFast) -> LlavaProcessor:
    size = {"height": SIZE, "width": SIZE}
    images = CLIPImageProcessorPil(
        size={"shortest_edge": SIZE}, crop_size=size, image_mean=[MIDDLE] * 3, image_std=[MIDDLE] * 3
    )
    return LlavaProcessor(
        images,
        tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=tokenizer.chat_template,
    )


def picture_batches(
    tokenizer: PreTrainedTokenizerFast, n: int, seed: int, start: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (ids [row, token], pixels [row, 3, SIZE, SIZE]) of n picture documents at a time, without end."""
    while True:
        documents = [picture_document(number, seed) for number in range(start, start + n)]
        start += n
        rows = token_rows(tokenizer, (document.text.replace(MARK, MARK * N_PATCHES) for document in documents))
        levels = np.stack([np.asarray(document.image, dtype=np.float32) for document in documents])
        pixels = torch.from_numpy((levels / 255 - MIDDLE) / MIDDLE).permute(0, 3, 1, 2).contiguous()
        yield padded(rows), pixels


def loss_of(network: LlavaForConditionalGeneration, ids: Tensor, pixels: Tensor | None = None) -> Tensor:
    """Mean cross-entropy of the tokens after the first, without pictures and padding, in nats."""
    logits = network(input_ids=ids[:, :-1], pixel_values=pixels, use_cache=False).logits
    following = ids[:, 1:].masked_fill(ids[:, 1:] == network.config.image_token_id, PAD)
    return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), following.flatten(), ignore_index=PAD)


def add_sight(
    text: str | Path, out: str | Path, config: SightConfig | None = None, *, reporter: Reporter | None = None
) -> dict[str, Any]:
    """Add a vision tower to the language model in the folder `text`, and write it to `out`; returns its record.

    Raises UsageError where `start` is not a model of the world, OutputBusyError where another run is writing `out`.
    """
    folder = local_path(out)
    with alone_in(folder):
        return _add_sight(Path(text), folder, config or SightConfig(), reporter or default_reporter())


def _add_sight(text: Path, out: Path, config: SightConfig, reporter: Reporter) -> dict[str, Any]:
    torch.manual_seed(config.seed)
    eyes, drawings = _read_eyes(config.start) if config.start else (None, 0)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(text)
    language = LlamaForCausalLM.from_pretrained(text, dtype=torch.float32, attn_implementation="eager")
    network = make_network(language, config, tokenizer.convert_tokens_to_ids(MARK), eyes)
    network.set_attn_implementation("eager")
    tower = list(network.model.vision_tower.parameters()) + list(network.model.multi_modal_projector.parameters())
    groups = [
        {"params": tower, "lr": config.lr, "initial": config.lr},
        {"params": list(network.model.language_model.parameters()), "lr": config.text_lr, "initial": config.text_lr},
    ]
    optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.95), weight_decay=0.05, fused=True)
    record = json.loads((text / "training.json").read_text())
    seen, losses = 0, []
    drawn = picture_batches(tokenizer, config.batch, config.seed, drawings)
    written = batches(tokenizer, config.text_tokens, config.seed, pool=record["documents"])
    with reporter.start("see", config.pictures, "pictures") as progress:
        while seen < config.pictures:
            share = seen / config.pictures
            for group in optimiser.param_groups:
                group["lr"] = group["initial"] * min(1.0, 20 * share + 0.01) * (1 - share)
            ids, pixels = next(drawn)
            optimiser.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                of_pictures, of_text = loss_of(network, ids, pixels), loss_of(network, next(written)[0])
            (of_pictures + of_text).backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            seen += len(ids)
            losses.append((of_pictures.item(), of_text.item()))
            progress.advance(len(ids), f"loss {losses[-1][0]:.3f}, of text {losses[-1][1]:.3f}")
    pictures, of_text = np.mean(losses[-50:], axis=0).tolist()
    record["sight"] = asdict(config) | {
        "loss": round(pictures, 4),
        "loss of text": round(of_text, 4),
        "drawings": drawings + seen,
    }
    record["parameters"] = sum(weight.numel() for weight in network.parameters())
    save_model(network, make_processor(tokenizer), out, record)
    return record


def _read_eyes(start: str) -> tuple[LlavaForConditionalGeneration | None, int]:
    """A model of the world that sees, and the number of the next drawing that it has not been trained on.

    None and 0 where the model in the folder reads text alone.
    """
    folder = world_model_folder(start)
    record = json.loads((folder / "training.json").read_text())
    if "sight" not in record:
        return None, 0
    return LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32), record["sight"]["drawings"]
