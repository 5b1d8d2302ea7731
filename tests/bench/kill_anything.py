"""Kill anything at random moments: nothing is left on the host, what is finished is whole, and it can be continued.

    python -m tests.bench.kill_anything [--moments 100] [--seed S] [--world analytic|emulated] [--only NUMBER]

Each moment sends SIGKILL, SIGTERM, SIGINT, SIGHUP, or SIGSTOP and then SIGKILL to a small `netkv run`, `netkv sweep` or
`netkv sweep --jobs 2`, or to a process below it. After it no process, temporary file, interface, namespace, mount or
setting may be left, every run's folder must pass `netkv check`, and after `--resume` the analytic tables must be the
bytes of an undisturbed sweep. Prints the seed, a line for each fault, and how often who was hit by what; exit code 1
when there was a fault. Ctrl-C ends it with the figures so far. The emulated world needs root, and real time.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import time
from collections import Counter
from contextlib import suppress

from tests.support.killing.plan import moments, name_of
from tests.support.killing.trial import killing_ground


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=100, help="kills that hit something (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32), help="of the moments (default: drawn)")
    parser.add_argument("--world", choices=("analytic", "emulated"), default="analytic")
    parser.add_argument("--only", type=int, help="the moment of this number alone")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
    planned = moments(options.seed, 2 * options.moments, options.world)  # some come when the command has ended
    if options.only is not None:
        planned = [planned[options.only]]
    hits: Counter[str] = Counter()
    codes: Counter[int] = Counter()
    faulty, late, began_s = 0, 0, time.monotonic()
    with suppress(KeyboardInterrupt), killing_ground(options.world) as ground:
        for moment in planned:
            ended = ground.kill(moment)
            for fault in ended.faults:
                print(f"{moment} ({ended.role or 'too late'}): {fault}", flush=True)
            faulty += bool(ended.faults)
            late += ended.late
            if not ended.late:
                hits[f"{ended.role:<16} {name_of(moment.signals)}"] += 1
                codes[ended.code] += 1
            if hits.total() == options.moments:
                break
    for what, times in sorted(hits.items()):
        print(f"{times:>4}  {what}")
    print("exit codes: " + ", ".join(f"{code} {times} times" for code, times in sorted(codes.items())))
    took_min = (time.monotonic() - began_s) / 60
    print(f"{hits.total()} moments, {late} more came too late; {faulty} with a fault; {took_min:.1f} min")
    return 1 if faulty else 0


if __name__ == "__main__":
    sys.exit(main())
