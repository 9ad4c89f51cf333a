"""Draw what the kernel is worth: `python -m tests.benchmarks.packing.picture`.

Two charts in docs/pictures/packing.svg, from the mixes that ship and our own book of prices: how
far the price is above the best bound proven as the work goes on (first fit, then each stage at the
default effort, then the thorough one), and what the plan costs beside first fit, with the bound
that no plan can beat. Work is CPU time of this machine; prices and bounds are the same on any.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from math import log10
from pathlib import Path

from outrider.core.packing.effort import Effort
from outrider.core.packing.pack import stages
from outrider.core.packing.problem import Problem
from tests.benchmarks.packing import batches, pools
from tests.benchmarks.packing.firstfit import first_fit

PICTURE = Path(__file__).resolve().parents[3] / "docs" / "pictures" / "packing.svg"
CURVES = ("serving 10000", "services 10000", "everything 10000")
BARS = (
    "serving 1000", "serving 10000", "finetuning 1000", "finetuning 10000",
    "services 1000", "services 10000", "everything 1000", "everything 10000",
)  # fmt: skip
INKS = ("one", "two", "three")
WIDTH, MIDDLE = 960, 480
TOP, BOTTOM = 74, 330
GAPS = (0.0003, 3.0)  # of the vertical axis, shares of the bound
SECONDS = (0.003, 100.0)
STYLE = """
text{font:13px system-ui,sans-serif;fill:#24292f}.head{font-weight:600;font-size:14px}
.soft{fill:#57606a;font-size:12px}.paper{fill:#fff}.rule{stroke:#d0d7de}
.one{stroke:#0969da;fill:#0969da}.two{stroke:#bf3989;fill:#bf3989}.three{stroke:#1a7f37;fill:#1a7f37}
polyline{fill:none!important;stroke-width:2}text.one,text.two,text.three{stroke:none}
.bar{fill:#0969da}.all{fill:#d0d7de}.bound{stroke:#cf222e;stroke-width:2}
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.soft{fill:#9198a1}.paper{fill:#0d1117}
.rule{stroke:#3d444d}.all{fill:#3d444d}.one{stroke:#4493f8;fill:#4493f8}.two{stroke:#f778ba;fill:#f778ba}
.three{stroke:#3fb950;fill:#3fb950}.bar{fill:#4493f8}.bound{stroke:#f85149}}
"""


@dataclass(frozen=True, slots=True)
class Course:
    """One batch: what first fit is paid, the price after so many seconds of work, the bound."""

    batch: str
    plain: float
    prices: tuple[tuple[float, float], ...]
    default: float
    bound: float


def main() -> None:
    """Pack every batch and write the picture."""
    courses = {name: course(name, thorough=name in CURVES) for name in dict.fromkeys(CURVES + BARS)}
    for item in courses.values():
        sys.stdout.write(
            f"{item.batch}: first fit {item.plain:.2f}, plan {item.default:.2f}, "
            f"bound {item.bound:.2f} $/h\n"
        )
    PICTURE.write_text(
        picture([courses[name] for name in CURVES], [courses[name] for name in BARS]),
        encoding="utf-8",
    )


def course(batch: str, *, thorough: bool) -> Course:
    """Return what happens to the price of *batch* as the work goes on."""
    kind, count = batch.split()
    pool = pools.load(None)
    pods = batches.synthetic(kind, int(count))
    begun = time.process_time()
    plain = first_fit(pods, pool)[0]
    prices = [(time.process_time() - begun, plain)]
    bound, default = 0.0, plain
    for effort in (None, Effort.thorough()) if thorough else (None,):
        begun = time.process_time()
        requests, demand = batches.grouped(pods)
        problem = Problem.of(
            requests=requests, demand=demand, allocatable=pool.allocatable, price=pool.price
        )
        for stage in stages(problem, effort=effort):
            if stage.left:
                raise SystemExit(f"{batch}: some pods fit nowhere, the figures would not compare")
            prices.append((time.process_time() - begun, stage.list_price))
            bound = max(bound, stage.bound)
        default = prices[-1][1] if effort is None else default
    return Course(batch, plain, tuple(prices), default, bound)


def picture(curves: Sequence[Course], bars: Sequence[Course]) -> str:
    """Return the two charts as one SVG."""
    told = "Gap to the proven bound over time, and price against first fit by batch"
    frame = f'viewBox="0 0 {WIDTH} 380" role="img" aria-label="{told}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {frame}>',
        f"<style>{STYLE}</style>",
        f'<rect class="paper" width="{WIDTH}" height="380" rx="6"/>',
        *_gap_over_time(curves),
        *_price_by_batch(bars),
        "</svg>\n",
    ]
    return "\n".join(parts)


def _gap_over_time(curves: Sequence[Course]) -> Iterator[str]:
    left, right = 66, MIDDLE - 30

    def across(seconds: float) -> float:
        return left + (right - left) * _share(seconds, SECONDS)

    def down(gap: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * _share(gap, GAPS)

    yield _text(16, 28, "Price above the proven bound as the work goes on", "head")
    yield _text(16, 48, "10,000 pods, CPU seconds; the first point is first fit", "soft")
    for gap in (0.001, 0.01, 0.1, 1.0):
        yield f'<path class="rule" d="M{left} {down(gap):.1f}H{right}"/>'
        yield _text(
            left - 8, down(gap) + 4, f"{gap:.1%}" if gap < 0.01 else f"{gap:.0%}", "soft", "end"
        )
    for seconds in (0.01, 0.1, 1.0, 10.0):
        yield _text(across(seconds), BOTTOM + 18, f"{seconds:g} s", "soft", "middle")
    yield f'<path class="rule" d="M{left} {BOTTOM}H{right}"/>'
    for place, (item, ink) in enumerate(zip(curves, INKS, strict=True)):
        best = item.plain
        at, points = 0.0, []
        # First fit's time is its own: the kernel starts beside it, not after it.
        steps = sorted(item.prices[1:])
        points.append((across(SECONDS[0]), down(item.plain / item.bound - 1)))
        for seconds, price in steps:
            at = max(at, seconds)
            points.append((across(at), down(best / item.bound - 1)))
            best = min(best, price)
            points.append((across(at), down(best / item.bound - 1)))
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        title = f"<title>{escape(item.batch)}</title>"
        yield f'<polyline class="{ink}" points="{line}">{title}</polyline>'
        name = f"{item.batch.split()[0]}: {best / item.bound - 1:.2%}"
        yield _text(right - 4, TOP + 16 + 18 * place, name, ink, "end")


def _price_by_batch(bars: Sequence[Course]) -> Iterator[str]:
    left, right = MIDDLE + 130, WIDTH - 60
    yield _text(MIDDLE + 16, 28, "Price of the plan, first fit = 100 %", "head")
    yield _text(
        MIDDLE + 16, 48, "default effort; the red mark is the bound: no plan is below it", "soft"
    )
    step = (BOTTOM + 18 - TOP) / len(bars)
    for place, item in enumerate(bars):
        top = TOP + step * place
        kind, count = item.batch.split()
        wide, share = right - left, item.default / item.plain
        mark = left + wide * item.bound / item.plain
        yield _text(left - 8, top + step / 2 + 1, f"{kind} {int(count):,}", "", "end")
        at = f'x="{left}" y="{top:.1f}" height="{step - 10:.1f}"'
        yield f'<rect class="all" {at} width="{wide}"/>'
        yield f'<rect class="bar" {at} width="{wide * share:.1f}"/>'
        yield f'<path class="bound" d="M{mark:.1f} {top - 2:.1f}v{step - 6:.1f}"/>'
        yield _text(right + 8, top + step / 2 + 1, f"{share:.0%}", "")


def _share(value: float, of: tuple[float, float]) -> float:
    """Return where *value* is between the ends *of* a logarithmic axis, 0 to 1."""
    low, high = (log10(end) for end in of)
    return min(max((log10(max(value, of[0])) - low) / (high - low), 0.0), 1.0)


def _text(x: float, y: float, said: str, kind: str, anchor: str = "start") -> str:
    return (
        f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(said)}</text>'
    )


if __name__ == "__main__":
    main()
