"""A day of everything that goes wrong: `python tests/benchmarks/chaos.py [--nodes N] [--hours H]
[--seed S]`.

500 nodes, 2,000 pods and 24 simulated hours on the embedded cloud unless told otherwise: prints
what was done and what came of it, and ends with 1 where a promise was broken. Equal arguments
give the same day. What happens in it, and how it is judged, is `tests/support/chaos.py`.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from tests.support.chaos import Weather, run  # noqa: E402


def main(arguments: list[str]) -> int:
    """Let the day pass, print its tally, and return whether a promise was broken."""
    usual = Weather()
    parser = argparse.ArgumentParser(description="A day of everything that goes wrong.")
    parser.add_argument("--nodes", type=int, default=usual.nodes)
    parser.add_argument("--hours", type=float, default=usual.hours)
    parser.add_argument("--seed", type=int, default=usual.seed)
    chosen = parser.parse_args(arguments)

    def said(text: str) -> None:
        print(f"[{time.process_time():7.1f} s CPU] {text}", file=sys.stderr, flush=True)

    waves = max(1, round(chosen.hours * usual.waves / usual.hours))
    weather = Weather(nodes=chosen.nodes, hours=chosen.hours, seed=chosen.seed, waves=waves)
    tally = run(weather, said)
    print("\n".join(tally.lines()))
    for promise, broken in tally.broken.items():
        print(f"BROKEN: {promise}")
        for one in broken[:20]:
            print(f"  {one}")
    print(f"{time.process_time():.0f} s of CPU")
    return 1 if tally.broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
