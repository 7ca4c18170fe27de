# SPDX-License-Identifier: Apache-2.0
"""Attention within windows, its bias of positions, and the blocks that move their windows."""

import pytest
import torch

from smnoise.compat import import_timm
from smnoise.models.audiomae import (
    AudioMAE,
)
from smnoise.models.local_attention import LocalBlock, WindowAttention

from .small_audio import SMALL, make


def dense_attention(attention, x, grid, shift):
    """Window attention as full attention: token by token, each over the tokens that share its window."""
    heads, width = attention.heads, x.shape[-1]
    query, key, value = attention.qkv(x).chunk(3, dim=-1)
    places = [(t, f) for t in range(grid[0]) for f in range(grid[1])]
    windows = [((t - shift[0]) // 4, (f - shift[1]) // 4) for t, f in places]
    out = torch.zeros_like(x)
    for head in range(heads):
        part = slice(head * width // heads, (head + 1) * width // heads)
        temperature = max(attention.temperature[head].item(), 0.01)
        for i, here in enumerate(places):
            mates = [j for j, window in enumerate(windows) if window == windows[i]]
            steps = torch.tensor([[a - b for a, b in zip(here, places[j], strict=True)] for j in mates])
            bias = attention.position_bias(steps.sign() * torch.log(1.0 + steps.abs()))[:, head]
            q, k, v = query[:, i, part], key[:, mates, part], value[:, mates, part]
            cosine = torch.cosine_similarity(q[:, None], k, dim=-1)
            share = (cosine / temperature + bias).softmax(dim=-1)
            out[:, i, part] = (share[..., None] * v).sum(dim=1)
    return attention.project(out)


def shake(module, seed=3):
    """Random parameters everywhere, so that no term is 0 or 1 by its initial value."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.4)
    return module.eval()


@pytest.mark.parametrize("shift", [(0, 0), (2, 0), (1, 3)])
@pytest.mark.parametrize("grid", [(8, 4), (8, 8), (6, 3), (7, 5), (1, 1), (3, 9), (2, 8)])
def test_window_attention_is_full_attention_within_windows(grid, shift):
    attention = shake(WindowAttention(16, 2, (4, 4), shift))
    with torch.no_grad():
        attention.temperature.copy_(torch.tensor([0.5, 0.001]))  # the second is raised to 0.01
        x = torch.randn(2, grid[0] * grid[1], 16, generator=torch.Generator().manual_seed(2))
        torch.testing.assert_close(
            attention(x, grid), dense_attention(attention, x, grid, shift), atol=2e-4, rtol=2e-4
        )


def test_the_position_bias_has_dropout_behind_both_layers_in_training():
    """As AudioMAE's patched block: a tenth of the entries are just 0, and the variance is that of two dropouts, half as
    much again as of the first one alone."""
    attention = shake(AudioMAE("base").decoder[0].attention).train()
    first, _, _, last, _ = attention.position_bias
    with torch.no_grad():
        drawn = torch.stack([attention.position_bias(attention.offsets) for _ in range(400)])
        assert (drawn == 0).double().mean().item() == pytest.approx(0.1, abs=0.002)  # 8 deviations
        hidden = first(attention.offsets).relu()
        odds = 0.1 / 0.9
        once = odds * hidden.square() @ last.weight.square().T
        twice = once / 0.9 + odds * last(hidden).square()
        assert (drawn.var(dim=0) / twice).mean().item() == pytest.approx(1, abs=0.02)
        assert (twice / once).mean() > 1.5


def test_the_last_bias_of_the_position_network_is_trained_and_nothing_to_evaluation(spectrograms):
    torch.manual_seed(0)
    attention = shake(WindowAttention(16, 2, (4, 4), (0, 0)))
    x = torch.randn(2, 32, 16)
    last = attention.position_bias[3]

    def gradient():
        attention.zero_grad()
        (attention(x, (8, 4)) * torch.linspace(-1, 1, 16)).sum().backward()
        return last.bias.grad.norm().item() / last.weight.grad.norm().item()

    assert gradient() < 1e-6
    attention.train()
    assert gradient() > 1e-3
    attention.eval()
    with torch.no_grad():
        before = attention(x, (8, 4))
        last.bias += 1
        torch.testing.assert_close(attention(x, (8, 4)), before, atol=1e-5, rtol=1e-5)


def test_weights_from_before_there_was_a_last_bias_are_loaded_with_zeros():
    model = make(decoder="local")
    state = {n: t for n, t in model.state_dict().items() if not n.endswith("position_bias.3.bias")}
    assert len(state) == len(model.state_dict()) - len(model.decoder)
    given = dict(state)
    other = make(decoder="local")
    shake(other)
    other.load_state_dict(state)
    assert state.keys() == given.keys()
    assert not any(block.attention.position_bias[3].bias.any() for block in other.decoder)
    with pytest.raises(RuntimeError, match=r"position_bias\.3\.weight"):
        other.load_state_dict({n: t for n, t in state.items() if not n.endswith("position_bias.3.weight")})


@pytest.mark.parametrize("shift", [(0, 0), (2, 0)])
def test_local_block_is_timms_with_the_same_weights(shift):
    """timm's block of the same family, forced to move along time only; it rolls and adds -100."""
    import_timm()
    from timm.models.swin_transformer_v2_cr import SwinTransformerV2CrBlock

    torch.manual_seed(0)
    ours = shake(LocalBlock(16, 2, (4, 4), shift))
    with torch.no_grad():
        ours.attention.temperature.copy_(torch.tensor([1.0, 0.2]))
    theirs = SwinTransformerV2CrBlock(16, 2, (12, 8), (4, 4)).eval()
    theirs.shift_size = shift
    theirs._init_buffers()
    weights = {"attn.logit_scale": -ours.attention.temperature.log()}
    names = {
        "attention.qkv": "attn.qkv",
        "attention.project": "attn.proj",
        "attention.position_bias.0": "attn.meta_mlp.fc1",
        "attention.position_bias.3": "attn.meta_mlp.fc2",
        "mlp.0": "mlp.fc1",
        "mlp.2": "mlp.fc2",
    }
    for name, value in ours.state_dict().items():
        if name != "attention.temperature":
            module, _, kind = name.rpartition(".")
            weights[f"{names.get(module, module)}.{kind}"] = value
    theirs.load_state_dict(weights)
    for norm in (*ours.modules(), *theirs.modules()):
        if isinstance(norm, torch.nn.LayerNorm):
            norm.eps = 1e-6
    x = torch.randn(2, 96, 16)
    with torch.no_grad():
        want = theirs(x.unflatten(1, (12, 8))).flatten(1, 2)
        torch.testing.assert_close(ours(x, (12, 8)), want, atol=1e-4, rtol=1e-4)


def test_windows_move_along_time_in_odd_blocks():
    model = make()
    # before: rows and columns of padding, so 2 means that a window starts at row 2.
    assert [block.attention.before for block in model.decoder] == [[0, 0], [2, 0]]


def test_local_decoder_sees_its_surroundings_only():
    """Two blocks: what lies more than two windows away in time cannot matter, even across the ends."""
    torch.manual_seed(0)
    model = AudioMAE(SMALL, (32, 4), patch=4).eval()
    ids = torch.arange(128)[None]
    features = torch.randn(1, 65, 24)
    keep, hidden = ids[:, ::2], ids[:, 1::2]
    with torch.no_grad():
        before = model.decode(features, keep, hidden, (32, 4))
        features[0, -1] += 1  # the last visible token, at time 31
        features[0, 0] += 1  # and the class token
        after = model.decode(features, keep, hidden, (32, 4))
    times = hidden[0][(before != after).any(dim=2)[0]] // 4
    assert times.min() >= 26
    assert times.max() == 31
