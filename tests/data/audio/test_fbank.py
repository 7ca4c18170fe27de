# SPDX-License-Identifier: Apache-2.0
"""Log-mel features equal Kaldi's, in a batch as alone, for every input that files give."""

import math

import kaldi_native_fbank
import numpy as np
import pytest
import torch

from smnoise.data.audio.fbank import DATA_SETS, LogMel, fit_length, normalise

FLOOR = math.log(np.finfo(np.float32).eps)


def kaldi(wave, rate: int, num_mels: int = 128) -> torch.Tensor:
    """The recipe's features by kaldi-native-fbank, whole-clip mean first."""
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.samp_freq = rate
    options.frame_opts.window_type = "hanning"
    options.frame_opts.dither = 0
    options.mel_opts.num_bins = num_mels
    options.htk_compat = True
    options.use_energy = False
    fbank = kaldi_native_fbank.OnlineFbank(options)
    wave = np.asarray(wave, np.float32)
    fbank.accept_waveform(rate, (wave - wave.mean(dtype=np.float64)).astype(np.float32).tolist())
    fbank.input_finished()
    frames = [fbank.get_frame(i) for i in range(fbank.num_frames_ready)]
    return torch.from_numpy(np.stack(frames)) if frames else torch.zeros(0, num_mels)


def signal(kind: str, rate: int, seconds: float = 1.0) -> np.ndarray:
    at = np.arange(int(rate * seconds)) / rate
    noise = np.random.default_rng(0).standard_normal(len(at))
    return {
        "noise": 0.1 * noise,
        "tones": 0.3 * np.sin(2 * np.pi * 440 * at) + 0.2 * np.sin(2 * np.pi * 3100 * at) + 1e-3 * noise,
        "quiet": 1e-4 * noise,
        "offset": 0.4 + 0.05 * noise,
        "sweep": 0.5 * np.sin(2 * np.pi * rate / 5 * at**2) + 1e-3 * noise,
    }[kind].astype(np.float32)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("kind", ["noise", "tones", "quiet", "offset", "sweep"])
def test_features_are_kaldis(kind, rate):
    wave = signal(kind, rate)
    got, want = LogMel(rate)(torch.from_numpy(wave)[None])[0], kaldi(wave, rate)
    assert (got.shape, got.dtype) == (want.shape, torch.float32)
    # Of a bin far below its frame's loudest one, both keep as many digits as float32's Fourier transform leaves.
    error, loud = (got - want).abs(), want > want.amax(dim=1, keepdim=True) - math.log(1e5)
    assert error[loud].max() < 5e-4
    assert error.max() < 0.05
    assert error.mean() < 3e-4


@pytest.mark.parametrize("num_mels", [1, 23, 80])
def test_other_numbers_of_bins(num_mels):
    wave = signal("noise", 16000)
    got = LogMel(16000, num_mels)(torch.from_numpy(wave)[None])[0]
    assert (got - kaldi(wave, 16000, num_mels)).abs().max() < 5e-4


@pytest.mark.parametrize("samples", [0, 1, 399, 400, 559, 560, 16000])
def test_only_whole_frames_count(samples):
    log_mel = LogMel(16000)
    wave = signal("noise", 16000)[:samples]
    frames = log_mel(torch.from_numpy(wave)[None]).shape[1]
    assert frames == log_mel.num_frames(samples) == int(log_mel.num_frames(torch.tensor(samples)))
    assert frames == (len(kaldi(wave, 16000)) if samples else 0)
    if frames:
        assert log_mel.num_samples(frames) <= samples < log_mel.num_samples(frames + 1)


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_a_batch_gives_the_bits_of_single_clips(rate):
    log_mel = LogMel(rate)
    waves = torch.randn(7, rate, generator=torch.Generator().manual_seed(0)) * 0.1
    batch = log_mel(waves)
    for i in range(7):
        assert torch.equal(log_mel(waves[i : i + 1])[0], batch[i])
    assert torch.equal(log_mel(waves.T.contiguous().T), batch)


def test_a_short_clip_in_a_batch_is_what_it_is_alone():
    log_mel = LogMel(16000)
    lengths = [16000, 9000, 560, 399, 0]
    waves = torch.randn(5, 16000, generator=torch.Generator().manual_seed(0)) + 0.2
    batch = log_mel(waves, torch.tensor(lengths))
    for i, length in enumerate(lengths):
        alone = fit_length(log_mel(waves[i : i + 1, :length]), batch.shape[1])[0]
        assert torch.equal(batch[i], alone), length


def test_silence_is_at_the_floor():
    for value in (0.0, 0.25):
        features = LogMel(16000)(torch.full((2, 4000), value))
        assert torch.equal(features, torch.full_like(features, FLOOR))


def test_loud_and_quiet_clips_stay_finite():
    waves = torch.randn(1, 16000, generator=torch.Generator().manual_seed(0))
    for gain in (1e-30, 1e-6, 1.0, 2.0**31):
        assert LogMel(16000)(waves * gain).isfinite().all()


def test_types_of_samples():
    log_mel, wave = LogMel(16000), torch.from_numpy(signal("tones", 16000))[None]
    want = log_mel(wave)
    double = log_mel(wave.double())
    assert double.dtype == torch.float32
    assert torch.equal(double, want)
    assert log_mel(wave.half()).dtype == torch.float32
    with pytest.raises(TypeError, match=r"torch\.int16; divide int16 by 32768"):
        log_mel((wave * 32767).short())


def test_autocast_and_gradients_change_nothing():
    log_mel, wave = LogMel(16000), torch.from_numpy(signal("tones", 16000))[None]
    with torch.autocast("cpu", torch.bfloat16):
        features = log_mel(wave.clone().requires_grad_())
    assert torch.equal(features, log_mel(wave))
    assert not features.requires_grad


def test_wrong_input_is_refused():
    log_mel = LogMel(16000)
    with pytest.raises(ValueError, match=r"expected waveforms \[B, N\], got \[16000\]"):
        log_mel(torch.zeros(16000))
    with pytest.raises(ValueError, match=r"expected 2 lengths"):
        log_mel(torch.zeros(2, 16000), torch.tensor([16000]))
    for settings in ({"sample_rate": 40}, {"shift_ms": 0}, {"num_mels": 0}):
        with pytest.raises(ValueError, match=r"need a window|must be in 1"):
            LogMel(**{"sample_rate": 16000, **settings})


def test_a_model_that_holds_one_saves_nothing_of_it():
    assert not LogMel(16000).state_dict()
    assert not list(LogMel(16000).parameters())


def test_fit_length_cuts_or_pads_with_zeros():
    features = torch.arange(1.0, 25.0).reshape(2, 3, 4)
    assert torch.equal(fit_length(features, 2), features[:, :2])
    longer = fit_length(features, 5)
    assert torch.equal(longer[:, :3], features)
    assert not longer[:, 3:].any()
    assert fit_length(features[:, :0], 5).shape == (2, 5, 4)


def test_the_data_sets_of_the_recipe():
    assert {name: clips.frames for name, clips in DATA_SETS.items()} == {
        "audioset": 1024,
        "esc50": 512,
        "speechcommands": 128,
    }
    clips = DATA_SETS["audioset"]
    values = torch.tensor([clips.mean, clips.mean + clips.std, 0.0])
    got = normalise(values, clips.mean, clips.std)
    assert torch.allclose(got, torch.tensor([0.0, 0.5, 4.2677393 / (2 * 4.5689974)]))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_gives_the_same_within_rounding():
    waves = torch.from_numpy(np.stack([signal("noise", 16000), signal("tones", 16000)]))
    on_gpu = LogMel(16000).cuda()(waves.cuda(), torch.tensor([16000, 9000]).cuda())
    assert (on_gpu.cpu() - LogMel(16000)(waves, torch.tensor([16000, 9000]))).abs().max() < 1e-3
