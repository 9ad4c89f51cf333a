"""Pictures of a run as SVG text: lanes of nodes, areas of pods, a line of cost, boxes of packing.

Values in, markup out. Colours are CSS variables of the report's style sheet, so that one file serves
light and dark screens; every shape has a <title>, so that a pointer tells what it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from html import escape

from outrider.local.demo.record import Mark, NodeLife, PackedNode, PackedPod, Record, Sample

WIDTH = 1080
LEFT = 210
RIGHT = 16
PALETTE = 12
NEAR_THE_EDGE = 0.9

Scale = Callable[[float], float]


def clock_text(seconds: float) -> str:
    """Return *seconds* as `m:ss`."""
    whole = round(seconds)
    return f"{whole // 60}:{whole % 60:02d}"


def lanes(record: Record) -> str:
    """Draw each node's life as a bar: launching, joining, ready, draining."""
    nodes = sorted(
        record.nodes.values(), key=lambda life: (life.launched, life.node_pool, life.instance)
    )
    row, top = 15, 26
    height = top + row * len(nodes) + 30
    x = _scale(record.end)
    parts = [_axis(x, record.end, top, height - 24), _marks(record.marks, x, height - 24)]
    for index, life in enumerate(nodes):
        parts.append(_lane(life, top + index * row, row - 4, x, record.end))
    return _svg(height, parts, "Each node from launch to its end")


def areas(record: Record) -> str:
    """Draw pods by state over time, stacked: running below, starting, pending on top."""
    samples = record.samples
    height, top, bottom = 250, 26, 220
    x = _scale(record.end)
    most = max((s.pending + s.starting + s.running for s in samples), default=1) or 1
    y = _down(top, bottom, most)
    layers: tuple[tuple[str, str, Callable[[Sample], int], Callable[[Sample], int]], ...] = (
        ("running", "good", lambda _: 0, lambda s: s.running),
        ("starting", "warm", lambda s: s.running, lambda s: s.running + s.starting),
        (
            "pending",
            "bad",
            lambda s: s.running + s.starting,
            lambda s: s.running + s.starting + s.pending,
        ),
    )
    parts = [_grid(y, most, ""), _axis(x, record.end, top, bottom)]
    for name, tone, low, high in layers:
        upper = _steps((x(s.at), y(high(s))) for s in samples)
        lower = reversed(_steps((x(s.at), y(low(s))) for s in samples))
        points = " ".join(f"{px:.1f},{py:.1f}" for px, py in (*upper, *lower))
        parts.append(
            f'<polygon points="{points}" class="area {tone}"><title>{name}</title></polygon>'
        )
    parts.append(_marks(record.marks, x, bottom))
    return _svg(height, parts, "Pods by state")


def cost(record: Record) -> str:
    """Draw dollars an hour over time against the first-fit plan's price for the same pods."""
    samples = record.samples
    height, top, bottom = 250, 26, 220
    x = _scale(record.end)
    most = (
        max([s.price_per_hour for s in samples] + [record.first_fit_per_hour or 0.0], default=1.0)
        or 1.0
    )
    y = _down(top, bottom, most)
    line = " ".join(
        f"{px:.1f},{py:.1f}" for px, py in _steps((x(s.at), y(s.price_per_hour)) for s in samples)
    )
    parts = [_grid(y, most, "$"), _axis(x, record.end, top, bottom)]
    parts.append(
        f'<polyline points="{line}" class="line"><title>$ per hour of all nodes</title></polyline>'
    )
    if record.first_fit_per_hour:
        level = y(record.first_fit_per_hour)
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{level:.1f}" y2="{level:.1f}" class="rival"/>'
            f'<text x="{WIDTH - RIGHT - 4}" y="{level + 12:.1f}" class="label end bad">'
            f"first-fit would run the same pods at ${record.first_fit_per_hour:,.2f}/h</text>"
        )
    parts.append(_marks(record.marks, x, bottom))
    return _svg(height, parts, "Cost over time")


def packing(nodes: Sequence[PackedNode]) -> str:
    """Draw each node as a box: GPU slots on top, then cpu and memory filled by workload."""
    workloads = sorted({pod.workload for node in nodes for pod in node.pods})
    tone = {name: index % PALETTE for index, name in enumerate(workloads)}
    legend = "".join(
        f'<span class="key"><i class="c{tone[name]}"></i>{escape(name)}</span>'
        for name in workloads
    )
    cards = "".join(_card(node, tone) for node in nodes)
    return f'<div class="legend">{legend}</div><div class="cards">{cards}</div>'


def _card(node: PackedNode, tone: dict[str, int]) -> str:
    slots = [tone[pod.workload] for pod in node.pods for _ in range(pod.gpus)]
    gpus = "".join(
        f'<i class="slot {f"c{slots[index]}" if index < len(slots) else "free"}"></i>'
        for index in range(node.gpus)
    )
    rows = "".join(
        _bar(name, node, size, total, tone)
        for name, size, total in (
            ("cpu", lambda pod: pod.milli_cpu, node.milli_cpu),
            ("mem", lambda pod: pod.memory_bytes, node.memory_bytes),
        )
    )
    kind = "spot" if node.capacity_type == "spot" else "od"
    return (
        f'<div class="card"><div class="head"><b>{escape(node.instance_type)}</b>'
        f'<span class="pill {kind}">{escape(node.capacity_type)}</span></div>'
        f'<div class="sub">{escape(node.node_pool)} · {escape(node.zone)} · '
        f"${node.price_per_hour:,.3f}/h · {len(node.pods)} pods</div>"
        f'<div class="slots">{gpus}</div>{rows}</div>'
    )


def _bar(
    name: str, node: PackedNode, size: Callable[[PackedPod], int], total: int, tone: dict[str, int]
) -> str:
    pieces, used = [], 0.0
    for pod in sorted(node.pods, key=lambda pod: pod.workload):
        share = 100 * size(pod) / total if total else 0.0
        pieces.append(
            f'<i class="c{tone[pod.workload]}" style="left:{used:.2f}%;width:{share:.2f}%" '
            f'title="{escape(pod.name)}"></i>'
        )
        used += share
    return f'<div class="bar"><em>{name}</em><div>{"".join(pieces)}</div><em>{used:.0f}%</em></div>'


def _lane(life: NodeLife, top: float, height: float, x: Scale, end: float) -> str:
    ends = life.gone if life.gone is not None else end
    steps: list[tuple[str, float, float | None]] = [
        ("launching", life.launched, life.joined),
        ("joining", life.joined or ends, life.initialized),
        ("ready", life.initialized or ends, life.draining),
        ("draining", life.draining or ends, None),
    ]
    name_tag = f"{escape(life.instance_type)} {life.capacity_type[:2]} {escape(life.zone[-2:])}"
    parts = [f'<text x="{LEFT - 8}" y="{top + height - 1:.1f}" class="label end">{name_tag}</text>']
    for name, begin, finish in steps:
        until = min(finish if finish is not None else ends, ends)
        if until > begin:
            parts.append(
                f'<rect x="{x(begin):.1f}" y="{top:.1f}" width="{max(x(until) - x(begin), 1):.1f}" '
                f'height="{height:.1f}" rx="2" class="{name}"><title>{escape(life.node or life.instance)}'
                f" {name} {clock_text(begin)} to {clock_text(until)}</title></rect>"
            )
    if life.seeded:
        parts.append(
            f'<circle cx="{x(life.launched):.1f}" cy="{top + height / 2:.1f}" r="4" class="seed">'
            "<title>its volume holds the images</title></circle>"
        )
    if life.interrupted is not None:
        parts.append(
            f'<text x="{x(life.interrupted):.1f}" y="{top + height:.1f}" class="bolt">'
            "⚡<title>Spot interruption warning</title></text>"
        )
    return "".join(parts)


def _marks(marks: Iterable[Mark], x: Scale, bottom: float) -> str:
    parts = []
    for index, mark in enumerate(marks):
        at, line = x(mark.at), 10 + 10 * (index % 2)
        late = at > WIDTH * NEAR_THE_EDGE
        parts.append(
            f'<line x1="{at:.1f}" x2="{at:.1f}" y1="16" y2="{bottom}" class="mark {mark.tone}"/>'
            f'<text x="{at - 3 if late else at + 3:.1f}" y="{line}" class="label {mark.tone}{" end" if late else ""}">'
            f"{escape(mark.label)}</text>"
        )
    return "".join(parts)


def _axis(x: Scale, end: float, top: float, bottom: float) -> str:
    step = next((size for size in (60, 120, 300, 600, 1800, 3600) if end / size <= 12), 7200)
    return "".join(
        f'<line x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{top}" y2="{bottom}" class="tick"/>'
        f'<text x="{x(tick):.1f}" y="{bottom + 14}" class="label mid">{clock_text(tick)}</text>'
        for tick in range(0, int(end) + 1, step)
    )


def _grid(y: Scale, most: float, unit: str) -> str:
    return "".join(
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}" class="tick"/>'
        f'<text x="{LEFT - 8}" y="{y(value) + 4:.1f}" class="label end">{unit}{value:,.0f}</text>'
        for value in (most * quarter / 4 for quarter in range(5))
    )


def _steps(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the corners of a staircase through *points*: a sample holds until the next."""
    result: list[tuple[float, float]] = []
    for px, py in points:
        if result:
            result.append((px, result[-1][1]))
        result.append((px, py))
    return result


def _scale(end: float) -> Scale:
    span = max(end, 1.0)
    return lambda at: LEFT + (WIDTH - LEFT - RIGHT) * at / span


def _down(top: float, bottom: float, most: float) -> Scale:
    return lambda value: bottom - (bottom - top) * value / most


def _svg(height: float, parts: Iterable[str], title: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg>"
    )
