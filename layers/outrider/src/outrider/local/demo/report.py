"""One self-contained HTML file about a run: no script, no network, light and dark."""

from __future__ import annotations

from html import escape

from outrider.local.demo import charts
from outrider.local.demo.record import Record

STYLE = """
:root{--bg:#fbfaf7;--ink:#1d2430;--soft:#5d6675;--line:#e3e0d8;--card:#fff;--good:#2f8f6b;--warm:#e0a030;
--bad:#c8503c;--info:#3b6ea8;--grey:#b9bfc8;--accent:#5b4fc7}
@media (prefers-color-scheme:dark){:root{--bg:#14171c;--ink:#e9e6df;--soft:#9aa3b2;--line:#2b313b;
--card:#1c2027;--good:#4cba8f;--warm:#e9b44c;--bad:#e4705c;--info:#6ea3e0;--grey:#4a525f;--accent:#9a8ff5}}
*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--ink);
font:15px/1.5 ui-sans-serif,system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1140px;margin:0 auto;padding:40px 24px 80px}h1{font-size:30px;margin:0 0 4px;letter-spacing:-.02em}
h2{font-size:18px;margin:44px 0 10px}p{color:var(--soft);margin:4px 0 16px;max-width:75ch}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(170px,1fr));gap:12px;margin:26px 0}
.tile{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:14px 16px}
.tile b{display:block;font-size:24px;letter-spacing:-.02em}.tile span{color:var(--soft);font-size:13px}
figure{margin:0;background:var(--card);border:1px solid var(--line);border-radius:12px;padding:14px}
svg{width:100%;height:auto;display:block}.label{font-size:10px;fill:var(--soft)}.label.end{text-anchor:end}
.label.mid{text-anchor:middle}.label.bad{fill:var(--bad)}.label.good{fill:var(--good)}.label.info{fill:var(--info)}
.tick{stroke:var(--line)}.mark{stroke-dasharray:3 3;stroke:var(--info)}.mark.bad{stroke:var(--bad)}
.mark.good{stroke:var(--good)}.launching{fill:var(--grey)}.joining{fill:var(--warm)}.ready{fill:var(--good)}
.draining{fill:var(--bad)}.seed{fill:var(--accent)}.bolt{font-size:14px}.area{opacity:.85}.area.good{fill:var(--good)}
.area.warm{fill:var(--warm)}.area.bad{fill:var(--bad)}.line{fill:none;stroke:var(--info);stroke-width:2.5}
.rival{stroke:var(--bad);stroke-dasharray:6 4;stroke-width:1.5}
.keys span,.key{font-size:12px;color:var(--soft);margin-right:14px;display:inline-block}
.keys i,.key i{width:10px;height:10px;border-radius:3px;display:inline-block;margin-right:5px;vertical-align:-1px}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(210px,1fr));gap:10px}
.card{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:10px 12px;font-size:12px}
.head{display:flex;justify-content:space-between;align-items:center}.sub{color:var(--soft);margin:2px 0 6px}
.pill{font-size:10px;border-radius:9px;padding:1px 7px;color:#fff}.pill.spot{background:var(--accent)}
.pill.od{background:var(--soft)}.slots{display:flex;gap:3px;min-height:16px;margin-bottom:5px}
.slot{width:16px;height:16px;border-radius:4px;display:inline-block}.slot.free{border:1.5px dashed var(--grey)}
.bar{display:grid;grid-template-columns:30px 1fr 34px;gap:6px;align-items:center;color:var(--soft)}
.bar em{font-style:normal;font-size:10px}.bar div{position:relative;height:9px;background:var(--line);
border-radius:5px;overflow:hidden}.bar i{position:absolute;top:0;bottom:0;border-right:1px solid var(--card)}
.legend{margin:0 0 10px}.c0{background:#4e79a7}.c1{background:#f28e2b}.c2{background:#59a14f}.c3{background:#b07aa1}
.c4{background:#e15759}.c5{background:#76b7b2}.c6{background:#edc948}.c7{background:#ff9da7}.c8{background:#9c755f}
.c9{background:#8f9aa8}.c10{background:#3f8f8a}.c11{background:#c9a227}table{border-collapse:collapse;width:100%;font-size:14px}td,th{text-align:left;
padding:6px 10px;border-bottom:1px solid var(--line)}th{color:var(--soft);font-weight:500}td.n{text-align:right;
font-variant-numeric:tabular-nums}details{margin-top:36px}summary{cursor:pointer;font-weight:600}
.log{font:12px/1.6 ui-monospace,SFMono-Regular,Menlo,monospace;white-space:pre-wrap;color:var(--soft)}
"""


def html(record: Record) -> str:
    """Return the report on *record* as one HTML document."""
    sections = (
        _section(
            "Nodes",
            _lane_keys() + _figure(charts.lanes(record)),
            "One lane an instance. A bolt is a Spot interruption warning, a dot a volume that already holds the images.",
        ),
        _section(
            "Pods",
            _figure(charts.areas(record)),
            "Pending (no node yet), starting (bound, pulling or booting) and running.",
        ),
        _section(
            "Cost", _figure(charts.cost(record)), "Dollars an hour of all nodes at each moment."
        ),
        _section(
            "Packing",
            charts.packing(record.packing),
            "Each node at the end: a square is a GPU, the bars are requests.",
        ),
        _section(
            "Stages", _stages(record), "How long each part of the way took, on the demo's clock."
        ),
    )
    decisions = "\n".join(
        f"{charts.clock_text(at):>6}  {kind:<20} {text}" for at, kind, text in record.decisions
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(record.title)}</title><style>{STYLE}</style></head><body><main>"
        f"<h1>{escape(record.title)}</h1>"
        "<p>Every handler, rule, queue and state machine of template.yaml ran in this process; the cloud and "
        "the cluster behind them are outrider's embedded ones.</p>"
        f"{_tiles(record)}{''.join(sections)}"
        f'<details><summary>Every decision, in order</summary><div class="log">{escape(decisions)}</div></details>'
        "</main></body></html>"
    )


def _tiles(record: Record) -> str:
    tiles = "".join(
        f'<div class="tile"><b>{escape(value)}</b><span>{escape(name)}</span></div>'
        for name, value in record.facts
    )
    return f'<div class="tiles">{tiles}</div>'


def _section(title: str, body: str, text: str) -> str:
    return f"<section><h2>{escape(title)}</h2><p>{escape(text)}</p>{body}</section>"


def _figure(body: str) -> str:
    return f"<figure>{body}</figure>"


def _lane_keys() -> str:
    keys = (("grey", "launching"), ("warm", "joining"), ("good", "ready"), ("bad", "draining"))
    return (
        '<div class="keys">'
        + "".join(
            f'<span><i style="background:var(--{tone})"></i>{name}</span>' for tone, name in keys
        )
        + "</div>"
    )


def _stages(record: Record) -> str:
    rows = "".join(
        f'<tr><td>{escape(stage.name)}</td><td class="n">{stage.count}</td>'
        f'<td class="n">{stage.median:,.1f} s</td><td class="n">{stage.p95:,.1f} s</td></tr>'
        for stage in record.stages
    )
    return f"<table><tr><th>stage</th><th>count</th><th>median</th><th>95th percentile</th></tr>{rows}</table>"
