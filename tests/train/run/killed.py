# SPDX-License-Identifier: Apache-2.0
"""A trainer that kills itself, as SIGKILL does: python killed.py MOMENT TRAINER OPTIONS...

Moments are counted: every file that is opened, renamed, made or removed below --out, and every step. What is done in
between by native code, such as writing a file of tensors, ends half way by limits of the file's size; see the tests.
Without MOMENT, given as 0, it trains to the end and says how many there were. Of several processes the one of number
KILLED_RANK kills itself, and KILLED_WITHIN is a folder that counts instead of --out; both are in the environment.
"""

import importlib
import os
import signal
import sys

from smnoise.train.run.ledger import Ledger

EVENTS = {"step", "open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree"}
moment, trainer = int(sys.argv[1]), sys.argv[2]
sys.argv[1:] = sys.argv[3:]
out = os.environ.get("KILLED_WITHIN", sys.argv[sys.argv.index("--out") + 1])
rank = os.environ.get("RANK", "0")
if rank != os.environ.get("KILLED_RANK", "0"):
    moment = 0
main_process = os.getpid()
passed = 0


def count(event, arguments):
    global passed
    if os.getpid() != main_process or event not in EVENTS or out not in str(arguments[0]):
        return
    passed += 1
    if passed == moment:
        os.kill(main_process, signal.SIGKILL)


sys.addaudithook(count)
end = Ledger.end


def counted(self, *rest):
    count("step", [out])
    end(self, *rest)


Ledger.end = counted
importlib.import_module(f"smnoise.train.{trainer}").main()
print(f"process {rank}: {passed} moments")
