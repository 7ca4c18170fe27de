# SPDX-License-Identifier: Apache-2.0
"""Section 7 of the mask contract in Triton: one program a partition, its labels and crowding in registers.

A register array cannot be indexed: what stands at one token comes from a sum over all of them, and the token of a rank
from memory. Candidates are compared as one int64: value above rank above label.
"""

import torch
import triton
import triton.language as tl

from .random import words

OPTIONS = {"enable_fp_fusion": False, "num_warps": 4}
PURPOSE_ORDER = tl.constexpr(2)
RELEASE = tl.constexpr(64)
NEVER = tl.constexpr(2**63 - 1)
# With more, registers spill: tokens, and numbers of a register array.
MAX_BLOCK, MAX_NUMBERS = 1 << 11, 1 << 14


@triton.jit
def partition_of(sample, K: tl.constexpr, COMPLEMENTARY: tl.constexpr):
    """Sample index (uint64) to partition number."""
    if COMPLEMENTARY:
        return sample // tl.full([1], K, tl.uint64)
    return sample


# A last batch of another size must not compile anew.
@triton.jit(do_not_specialize=["batch", "steps", "centre"])
def optim_blue_kernel(
    seed_ptr, samples_ptr, table_ptr, base_ptr, ring_ptr, scratch_ptr, scores_ptr, batch, steps, centre,
    L: tl.constexpr, V: tl.constexpr, K: tl.constexpr, COMPLEMENTARY: tl.constexpr, VIEWS: tl.constexpr,
    BLOCK: tl.constexpr, MASKS: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """scores float32 [rows, L]: 1 where the row's mask shows the token, else 0.

    table int32: S, displacement 0 at `centre`; base int32 [L]: S(q - p) is table[centre + base[q] - base[p]].
    ring int32 [L]: the same for tokens that may change places where one is of the rest. scratch int32 [batch, BLOCK].
    BLOCK, MASKS: powers of two from L, K. Programs: samples; the first of neighbours with the same partition works
    for all of them.
    """
    row = tl.program_id(0)
    number = partition_of((tl.load(samples_ptr + row + tl.arange(0, 1))).to(tl.uint64), K, COMPLEMENTARY)
    before = row - (row > 0).to(tl.int32)
    earlier = partition_of((tl.load(samples_ptr + before + tl.arange(0, 1))).to(tl.uint64), K, COMPLEMENTARY)
    first = tl.max(((row == 0) | (earlier != number)).to(tl.int32), axis=0)
    if first > 0:
        token = tl.arange(0, BLOCK)
        inside = token < L
        k = tl.arange(0, MASKS)
        base = tl.load(base_ptr + token, mask=inside, other=0)
        ring = tl.load(ring_ptr + token, mask=inside, other=0)
        scratch = scratch_ptr + row.to(tl.int64) * BLOCK

        # Rank: how many words are smaller. Equal words: the lower token first.
        zero = token * 0
        w0, w1, w2, w3 = words(tl.load(seed_ptr), number.to(tl.int64), PURPOSE_ORDER, token >> 2, zero, zero)
        low = tl.where((token & 1) > 0, w1, w0)
        high = tl.where((token & 1) > 0, w3, w2)
        word = tl.where((token & 2) > 0, high, low)
        tl.store(scratch + token, word.to(tl.int32, bitcast=True))
        tl.debug_barrier()
        rank = zero
        i = 0
        while i < L:
            other = i + tl.arange(0, CHUNK)
            theirs = tl.load(scratch + other, mask=other < L, other=-1).to(tl.uint32, bitcast=True)
            smaller = (theirs[None, :] < word[:, None]) | (
                (theirs[None, :] == word[:, None]) & (other[None, :] < token[:, None])
            )
            rank += tl.sum((smaller & (other[None, :] < L)).to(tl.int32), axis=1)
            i += CHUNK
        tl.debug_barrier()
        tl.store(scratch + rank, token, mask=inside)  # from here on: the token of each rank
        tl.debug_barrier()

        crowd = tl.zeros([MASKS, BLOCK], tl.int32)
        label = zero + K
        left = tl.where(k < K, V, 0)
        n = 0
        while n < K * V:
            p = tl.load(scratch + n)
            column = tl.sum(tl.where(token[None, :] == p, crowd, 0), axis=1)
            turn = (k + K - n % K) % K
            least = tl.min(tl.where(left > 0, (column.to(tl.int64) << 32) | turn.to(tl.int64), NEVER), axis=0)
            chosen = ((least & 0xFFFFFFFF).to(tl.int32) + n) % K
            near = tl.load(table_ptr + centre + base - tl.load(base_ptr + p), mask=inside, other=0)
            crowd += tl.where(k[:, None] == chosen, near[None, :], 0)
            label = tl.where(token == p, chosen, label)
            left -= (k == chosen).to(tl.int32)
            n += 1

        until = zero
        t = 0
        while t < steps:
            labelled = label < K
            own = tl.sum(tl.where(k[:, None] == label[None, :], crowd, 0), axis=0)
            own = tl.where(labelled, own, 0)
            place = rank * (K + 1) + label
            # The largest own, then the lowest rank: the least of its complement.
            worst = tl.min(
                tl.where((own > 0) & (until <= t), (-own.to(tl.int64) << 32) + place.to(tl.int64), NEVER),
                axis=0,
            )
            if worst == NEVER:
                t = steps
            else:
                own_p = -(worst >> 32).to(tl.int32)
                place_p = (worst & 0xFFFFFFFF).to(tl.int32)
                p = tl.load(scratch + place_p // (K + 1))
                a = place_p % (K + 1)
                column = tl.sum(tl.where(token[None, :] == p, crowd, 0), axis=1)
                theirs = tl.sum(tl.where(k[:, None] == label[None, :], column[:, None], 0), axis=0)
                mine = tl.sum(tl.where(k[:, None] == a, crowd, 0), axis=0)
                near = tl.load(table_ptr + centre + base - tl.load(base_ptr + p), mask=inside, other=0)
                change = mine - near - own_p + tl.where(labelled, theirs - near - own, 0)
                like = labelled | (ring == tl.load(ring_ptr + p))
                best = tl.min(
                    tl.where(
                        inside & (label != a) & like, (change.to(tl.int64) << 32) + place.to(tl.int64), NEVER
                    ),
                    axis=0,
                )
                if best < 0:
                    place_q = (best & 0xFFFFFFFF).to(tl.int32)
                    q = tl.load(scratch + place_q // (K + 1))
                    b = place_q % (K + 1)
                    far = tl.load(table_ptr + centre + base - tl.load(base_ptr + q), mask=inside, other=0)
                    moved = tl.where(k[:, None] == b, 1, 0) - tl.where(k[:, None] == a, 1, 0)
                    crowd += moved * (near - far)[None, :]
                    label = tl.where(token == p, b, tl.where(token == q, a, label))
                else:
                    until = tl.where(token == p, t + 1 + RELEASE, until)
                t += 1

        # This row's, and those of the rows behind it that share the partition.
        sample = tl.load(samples_ptr + row + tl.arange(0, 1)).to(tl.uint64)
        same = 1
        while same > 0:
            if VIEWS:
                for mask in range(K):
                    scores = scores_ptr + (row.to(tl.int64) * K + mask) * L
                    tl.store(scores + token, (label == mask).to(tl.float32), mask=inside)
            else:
                mask = zero
                if COMPLEMENTARY:
                    mask += (sample % tl.full([1], K, tl.uint64)).to(tl.int32)
                tl.store(
                    scores_ptr + row.to(tl.int64) * L + token, (label == mask).to(tl.float32), mask=inside
                )
            row += 1
            same = 0
            if row < batch:
                sample = tl.load(samples_ptr + row + tl.arange(0, 1)).to(tl.uint64)
                same = tl.max((partition_of(sample, K, COMPLEMENTARY) == number).to(tl.int32), axis=0)


def optim_blue(seed, samples, spec, table, base, ring):
    """float32 [rows, L]: 1 where a row's mask shows the token. table, base, ring: those of `spec`, on the device."""
    batch, rows = len(samples), len(samples) * spec.rows_per_sample
    block, masks = sides(spec)
    scratch = torch.empty(batch, block, dtype=torch.int32, device=samples.device)
    scores = torch.empty(rows, spec.tokens, dtype=torch.float32, device=samples.device)
    optim_blue_kernel[(batch,)](
        seed, samples, table, base, ring, scratch, scores, batch, spec.steps, spec.centre,
        L=spec.tokens, V=spec.visible, K=spec.num_masks,
        COMPLEMENTARY=spec.masks == "complementary", VIEWS=spec.masks == "views",
        BLOCK=block, MASKS=masks, CHUNK=chunk(block), **(OPTIONS | {"num_warps": warps(block, masks)}),
    )  # fmt: skip
    return scores


def sides(spec) -> tuple[int, int]:
    """BLOCK and MASKS of a spec."""
    return triton.next_power_of_2(max(spec.tokens, 16)), triton.next_power_of_2(spec.num_masks)


def chunk(block: int) -> int:
    """Tokens that are compared with all others at a time."""
    return max(1, min(8, (1 << 12) // block))


def warps(block: int, masks: int) -> int:
    """Of a program: 32 numbers a thread of its largest array."""
    return min(16, max(4, block * max(masks, chunk(block)) // 1024))
