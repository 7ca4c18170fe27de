#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The CPU core under AddressSanitizer and UndefinedBehaviorSanitizer: a build of its own in build/sanitize, and the
# tests of the ops and the fuzzing run with it. The first finding ends the process with a report.
#
#   tests/sanitize_cpu.sh                                          # needs g++ with its runtime, and make test's .venv
#   SMNOISE_FUZZ_EXAMPLES=2000 tests/sanitize_cpu.sh fuzz           # tests/fuzz alone
set -euo pipefail
cd "$(dirname "$0")/.."
ROOT=$PWD
PYTHON=${PYTHON:-$ROOT/.venv/bin/python}
BUILD=$ROOT/build/sanitize
SANITIZE="-fsanitize=address,undefined -fno-sanitize-recover=all"

rm -rf "$BUILD/lib"
SMNOISE_CXXFLAGS="$SANITIZE -O1 -g -fno-omit-frame-pointer" SMNOISE_LDFLAGS="$SANITIZE" \
    "$PYTHON" setup.py -q build --build-base "$BUILD" --build-lib "$BUILD/lib" --build-temp "$BUILD/temp"

RUNTIME=
for name in libasan.so libubsan.so; do
    RUNTIME+="$(realpath "$(${CXX:-g++} -print-file-name=$name)") "
done
run() {
    # Python's own allocator would hide what lies beside a buffer. Leaks are Python's and torch's: not looked for.
    LD_PRELOAD="$RUNTIME" PYTHONMALLOC=malloc ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 "$PYTHON" "$@"
}

cd "$BUILD/lib"  # where Python finds this smnoise first

# A write of 64 values into room for one must be found, or nothing is being watched.
if run - 2>"$BUILD/check" <<'END'
import numpy as np
from smnoise.backends import cpu

at, room = np.arange(64), np.empty(1, np.float32)
cpu._load()[0].smn_white_values(0, 0, *[at.ctypes.data] * 3, 64, room.ctypes.data)
END
then
    echo "the sanitizers do not see a write beyond a buffer" >&2
    exit 1
fi
grep -q "AddressSanitizer: heap-buffer-overflow" "$BUILD/check" || { cat "$BUILD/check" >&2; exit 1; }

if [ $# -eq 0 ]; then
    set -- fuzz pools contract/test_known_answers.py backends/test_block.py samplers/test_{samplers,strategies}.py \
        ops/test_{color_mask,threshold,gaussian_filter,optim_blue,strategy_mask,random_words,training_ops}.py
fi
run -m pytest -q -p no:cacheprovider --rootdir "$ROOT" -c "$ROOT/pyproject.toml" -k "not triton and not compile" \
    "${@/#/$ROOT/tests/}"
