# SPDX-License-Identifier: Apache-2.0
"""Runs PTX, what the compilers make of the GPU kernels, on a CPU: text.py reads it, generate.py makes Python of each
basic block, schedule.py lets threads take turns, memory.py and races.py judge what they touch, stand_in.py takes the
place of the driver. An instruction that is not known raises PtxError; what is wrong on the way becomes a Fault.

Not seen here: the assembler (ptxas), the driver, streams, graphs, time.
"""
