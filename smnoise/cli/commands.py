# SPDX-License-Identifier: Apache-2.0
"""The commands by name, and the exit codes that they share."""

FAILED, WRONG_USE, INTERRUPTED, TERMINATED = 1, 2, 130, 143

# Name: what it does. A name is a module here, with a dataclass Options and run(options) -> exit code, or forwards to a
# trainer (see `trainers`).
COMMANDS = {
    "list": "the masks by name, those of published recipes too: `smnoise list green`",
    "sample": "masks as text, JSON, .npz or .safetensors",
    "viz": "masks over a clip or a spectrogram; what a model fills in (video, audio, reconstruct)",
    "report": "a page of measurements of any sampler: spectrum, visibility, distances",
    "bench": "a mask's time on this machine, beside MAE's random masking",
    "pretrain": "VideoMAE or AudioMAE, with masks made in the loop (video, audio)",
    "finetune": "a pretrained encoder as a classifier (video, audio)",
    "probe": "how well a frozen model's features tell classes apart",
    "study": "small models under several kinds of masks, compared over seeds (gate)",
    "data": "data sets made from installed packages (ego-motion, sounds)",
    "convert": "weights of VideoMAE and AudioMAE between layouts",
    "pool": "files of masks or noise, made ahead (build, info, colormae)",
    "verify": "known answers, on every backend that runs here",
    "doctor": "what works on this machine, why the rest does not, and what to install",
}
TRAINERS = ("pretrain", "finetune", "probe", "study")
