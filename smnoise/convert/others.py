# SPDX-License-Identifier: Apache-2.0
"""Names for weights that cannot be converted: what they are, told from keys and shapes, and what can be done."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

PRETRAINING = "a checkpoint of pretraining is needed, with its decoder"
# Prefixes of models that are told by their names alone.
FAMILIES = {
    "v.patch_embed.": "an Audio Spectrogram Transformer (AST, or SSAST)",
    "audio_spectrogram_transformer.": "an Audio Spectrogram Transformer of transformers",
    "patch_embed_a.": "a CAV-MAE without its decoder, such as a fine-tuned one",
    "modality_encoders.": "a data2vec 2 or EAT",
    "patch_embedding.": "a BEATs",
    "vivit.": "a ViViT of transformers",
    "timesformer.": "a TimeSformer of transformers",
    "vit.embeddings.": "an image model of transformers, such as ViTMAE",
    "beit.": "a BEiT of transformers",
    "wav2vec2.": "a wav2vec 2.0 of transformers",
    "hubert.": "a HuBERT of transformers",
    "clip.": "a CLIP",
    "visual.": "the image half of a CLIP",
}
EMBEDDINGS = (
    "encoder.patch_embed.proj.weight",
    "patch_embed.proj.weight",
    "videomae.embeddings.patch_embeddings.projection.weight",
    "embeddings.patch_embeddings.projection.weight",
    "embeddings.patch_embeddings.weight",
    "encoder.embed.weight",
    "embed.weight",
)
HEADS = ("head.weight", "classifier.weight", "mlp_head.weight", "cls_head.fc_cls.weight")
DECODERS = ("decoder", "bridge.", "encoder_to_decoder.")


def name_of(state: Mapping[str, Tensor]) -> str:
    """What weights are that are none of ours, and what to do, as the end of a sentence that begins with "they are"."""
    for prefix, family in FAMILIES.items():
        if any(name.startswith(prefix) for name in state):
            return f"of {family}; of such models none can be converted"
    embedding = next((name for name in EMBEDDINGS if name in state), None)
    if embedding is None:
        some = ", ".join(sorted(state)[:5]) or "nothing"
        return f"of no model that is known here: what there is begins with {some}"
    shape = list(state[embedding].shape)
    decoder = any(name.startswith(DECODERS) for name in state)
    head = next((name for name in HEADS if name in state), None)
    evidence = f"{embedding} {shape}" + (f", {head} {list(state[head].shape)}" if head else "")
    what, advice = _kind(shape, decoder, head is not None, embedding)
    return f"of {what} ({evidence}); {advice}"


def _kind(shape: list[int], decoder: bool, head: bool, embedding: str) -> tuple[str, str]:
    without = f"{PRETRAINING} (encoders alone and fine-tuned models are not converted)"
    if embedding.endswith("embed.weight") and len(shape) == 2:
        kind = "a fine-tuned model of smnoise" if head else "an encoder of smnoise without its decoder"
        return kind, f"{without}: take the pretraining run that it began with"
    if len(shape) == 5 and decoder:
        return "another video MAE than VideoMAE, such as MAE-ST", "of such models none can be converted"
    if len(shape) == 5 and head:
        return "a fine-tuned VideoMAE, or another video classifier", without
    if len(shape) == 5:
        return "the encoder of a VideoMAE, or of another video model, alone", without
    if len(shape) == 4 and shape[1] == 1:
        return (
            "a fine-tuned AudioMAE, or another sound classifier" if head else "an encoder of sounds alone"
        ), without
    if len(shape) == 4:
        kind = "an image MAE" if decoder else "an image model (ViT, or a fine-tuned image MAE)"
        return kind, "smnoise has models of videos and sounds, not of pictures"
    return "an unknown model", "of such models none can be converted"
