"""The shadow report as one HTML page: no script, no network, light and dark.

Values of `cli.report`'s JSON in, markup out; the look is the demo report's. Every bar has a
<title>, so that a pointer tells what it is, and every picture stands beside its figures.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any

from outrider.cli.report import HOURS_A_MONTH, LEVELS, told, used
from outrider.local.demo.report import STYLE

WIDTH, LEFT, ROW = 1080, 300, 30
TONES = {
    "asIs": "bad",
    "consolidated": "warm",
    "firstFit": "info",
    "plan": "good",
    "lowerBound": "grey",
}
MORE_STYLE = """
.bad{fill:var(--bad)}.warm{fill:var(--warm)}.info{fill:var(--info)}.good{fill:var(--good)}
.grey{fill:var(--grey)}.accent{fill:var(--accent)}.name{font-size:12px;fill:var(--ink)}
.name.end{text-anchor:end}.same td{color:var(--soft)}td.s{color:var(--soft);font-size:12px}
.note{border-left:3px solid var(--warm);padding-left:12px}.scroll{overflow-x:auto}
"""


def page(document: dict[str, Any]) -> str:
    """Return the report in *document* as one HTML document."""
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in document["notes"])
    sections = (
        _section(
            "Dollars an hour",
            _levels(document["pricePerHour"]),
            "The same pods, the same NodePools, the same prices. Between the second bar and the"
            " plan lies what running pods cannot be moved for: budgets, do-not-disrupt,"
            " PodDisruptionBudgets.",
        ),
        _section(
            "What is asked for of what is paid for",
            _use(document["use"]),
            "Requests as a share of all nodes' allocatable, DaemonSets included.",
        ),
        _section(
            "What constraints cost",
            _constraints(document["constraints"]),
            "Each family lifted by itself, and the same pods planned again. The costs do not add"
            " up: of two that forbid the same thing, each alone costs nothing.",
        ),
        _section(
            "Node by node",
            _nodes(document["nodes"], "podsGoTo", "its pods go to"),
            "As it is, the dearest first. Those that the plan has, too, are grey.",
        ),
        _section(
            "What the plan has instead",
            _nodes(document["planned"], "podsComeFrom", "its pods come from"),
            "Each launch with its cheapest offering; CreateFleet would get every alternative.",
        ),
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>outrider: shadow report</title><style>{STYLE}{MORE_STYLE}</style></head><body>"
        f"<main><h1>Shadow report</h1><p>The cluster at {escape(document['at'])} against the plan"
        " that outrider would make for the pods that run in it. Nothing was changed for it.</p>"
        f"{_tiles(document)}{notes}{''.join(sections)}</main></body></html>"
    )


def _tiles(document: dict[str, Any]) -> str:
    prices, saving = document["pricePerHour"], document["savingPerHour"]
    share = saving / prices["asIs"] if prices["asIs"] else 0.0
    count = {"same": 0, "gone": 0, "kept": 0, "new": 0}
    for line in (*document["nodes"], *document["planned"]):
        count[line["verdict"]] += 1
    facts = (
        (f"${prices['asIs']:,.2f}", "an hour as it is"),
        (f"${prices['plan']:,.2f}", "an hour as planned"),
        (f"{share:.0%}", f"less: ${saving * HOURS_A_MONTH:,.0f} a month"),
        (f"{len(document['nodes'])} → {len(document['planned']) + count['kept']}", "nodes"),
        (f"{document['pods']['replanned']}", "pods planned anew"),
    )
    tiles = "".join(
        f'<div class="tile"><b>{escape(value)}</b><span>{escape(name)}</span></div>'
        for value, name in facts
    )
    return f'<div class="tiles">{tiles}</div>'


def _section(title: str, body: str, text: str) -> str:
    return f"<section><h2>{escape(title)}</h2><p>{escape(text)}</p>{body}</section>"


def _levels(prices: dict[str, float | None]) -> str:
    known = [(name, price) for name in LEVELS if (price := prices[name]) is not None]
    bars = [(LEVELS[name], price, TONES[name], f"${price:,.3f}/h") for name, price in known]
    return _figure(_bars(bars), "Dollars an hour")


def _use(use: dict[str, dict[str, float]]) -> str:
    bars = [
        (f"{name.rpartition('/')[2]}, {said}", shares[key], tone, f"{shares[key]:.0%}")
        for name, shares in use.items()
        for key, said, tone in (("asIs", "as it is", "bad"), ("plan", "planned", "good"))
    ]
    return _figure(_bars(bars, most=1.0), "Shares")


def _constraints(constraints: list[dict[str, Any]]) -> str:
    if not constraints:
        return "<p>Nobody says anything that could be lifted.</p>"
    known = [item for item in constraints if item["costsPerHour"] is not None]
    bars = [
        (item["family"], item["costsPerHour"], "accent", f"${item['costsPerHour']:,.3f}/h")
        for item in known
    ]
    rows = "".join(
        f"<tr><td>{escape(item['family'])}</td><td class=n>{item['saidBy']}</td>"
        f"<td class=n>{_price(item['costsPerHour'])}</td>"
        f"<td class=s>{escape(item['lifted'])}</td></tr>"
        for item in constraints
    )
    table = f"<table><tr><th>family<th>said by<th>$ an hour<th>if lifted</tr>{rows}</table>"
    return _figure(_bars(bars), "Cost of constraints") + table


def _nodes(lines: list[dict[str, Any]], peers: str, heading: str) -> str:
    ordered = sorted(
        lines,
        key=lambda line: (line["verdict"] == "same", -(line["pricePerHour"] or 0.0), line["name"]),
    )
    rows = "".join(
        f'<tr class="{line["verdict"]}"><td>{escape(line["name"])}</td><td>{line["verdict"]}</td>'
        f"<td>{escape(line['instanceType'])} {line['capacityType']}</td>"
        f"<td>{escape(line['zone'])}</td><td class=n>{_price(line['pricePerHour'])}</td>"
        f"<td class=n>{line['pods']}</td><td class=s>{escape(used(line['use']))}</td>"
        f"<td class=s>{escape(line.get('why') or told(line[peers]))}</td></tr>"
        for line in ordered
    )
    return (
        '<div class="scroll"><table><tr><th>node<th>verdict<th>type<th>zone<th>$ an hour'
        f"<th>pods<th>use<th>{heading}</tr>{rows}</table></div>"
    )


def _price(amount: float | None) -> str:
    return "?" if amount is None else f"{amount:,.4f}"


def _bars(bars: Iterable[tuple[str, float, str, str]], most: float | None = None) -> str:
    """Draw (name, value, tone, text) as horizontal bars; *most* is the full width's value."""
    drawn = list(bars)
    full = most or max((value for _, value, _, _ in drawn), default=0.0) or 1.0
    parts = []
    for index, (name, value, tone, text) in enumerate(drawn):
        top = 8 + index * ROW
        width = max(1.0, (WIDTH - LEFT - 110) * min(value / full, 1.0))
        parts.append(
            f'<text x="{LEFT - 10}" y="{top + 15}" class="name end">{escape(_short(name))}</text>'
            f'<rect x="{LEFT}" y="{top}" width="{width:.1f}" height="{ROW - 9}" rx="4"'
            f' class="{tone}"><title>{escape(name)}: {escape(text)}</title></rect>'
            f'<text x="{LEFT + width + 8:.1f}" y="{top + 15}" class="name">{escape(text)}</text>'
        )
    return f'<svg viewBox="0 0 {WIDTH} {len(drawn) * ROW + 12}" role="img">{"".join(parts)}</svg>'


def _short(name: str) -> str:
    return name.partition(",")[0] if len(name) > LEFT // 6 else name


def _figure(body: str, title: str) -> str:
    return f'<figure aria-label="{escape(title)}">{body}</figure>'
