"""`outrider seed`: which images deserve a seed, build them now, what there is, what goes.

`plan` shows for every set of images how long a node waits by four ways side by side, and what the
seed costs; `run` starts the state machine that an image push starts; `list` reads the ledger; `gc`
removes what nobody wants any more, and with `--dry-run` only says it and why. All of it decides
with the same flows as the seed function. Exit status 0; 1 where the account says no.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click
import orjson

from outrider.cli.account import Place, located, world

if TYPE_CHECKING:
    from datetime import datetime

    from outrider.core.seeding import Seed
    from outrider.core.seeding.decide import Build, Decision
    from outrider.core.seeding.garbage import Litter

WIDE = 150  # where nobody says how wide the paper is
SHORT = 12
LISTED = 20
ECR = ".dkr.ecr."


@click.group(epilog="Example: outrider seed plan --cluster prod")
def command() -> None:
    """Snapshots that hold images, so that nodes start without pulling them."""


@command.command(epilog="Example: outrider seed plan --cluster prod -o json")
@click.argument("images", nargs=-1, metavar="[IMAGE]...")
@located
def plan(place: Place, images: tuple[str, ...], output: str) -> int:
    """Show what would be built for the images that pods run (only IMAGEs, where they are named):
    the wait by a plain pull, a parallel pull, a peer and a seed, and the cost."""
    from outrider.flows import seedplan

    found = seedplan.look({"images": images}, world(place)).decision
    if output == "json":
        _print_json(shown(found))
    else:
        _plan_table(found)
    return 0


@command.command(epilog="Example: outrider seed run ml/trainer:v42 --cluster prod")
@click.argument("images", nargs=-1, metavar="[IMAGE]...")
@click.option("--dry-run", is_flag=True, help="Only show what would be built.")
@located
def run(place: Place, images: tuple[str, ...], output: str, *, dry_run: bool) -> int:
    """Build the missing seeds now, of all images that pods run or of IMAGEs."""
    from outrider.flows import seedplan

    account = world(place)
    if dry_run:
        found = seedplan.look({"images": images}, account).decision
        if output == "json":
            _print_json(shown(found))
        else:
            _plan_table(found)
        return 0
    at = account.clock.now().strftime("%Y%m%dT%H%M%S")
    digest = hashlib.sha256("\n".join(images).encode()).hexdigest()[:8]
    payload = {"reason": "outrider seed run", **({"images": list(images)} if images else {})}
    arn = account.workflows.start("seed", f"run-{at}-{digest}", payload)
    if output == "json":
        _print_json({"execution": arn})
    else:
        click.echo(f"started {arn}\n`outrider seed list` shows the seed once it is published")
    return 0


@command.command("list", epilog="Example: outrider seed list --cluster prod -o json")
@located
def list_(place: Place, output: str) -> int:
    """List the seeds: their images, what they serve, when a pod last ran one of them."""
    seeds = world(place).ledger.seeds()
    if output == "json":
        _print_json({"seeds": [_seed_shown(seed) for seed in seeds]})
    else:
        _seed_table(seeds)
    return 0


@command.command(epilog="Example: outrider seed gc --dry-run --cluster prod")
@click.option("--dry-run", is_flag=True, help="Only say what would go, and why.")
@located
def gc(place: Place, output: str, *, dry_run: bool) -> int:
    """Remove unused, superseded and orphaned snapshots, builders and volumes."""
    from outrider.flows import seedend

    account = world(place)
    found = seedend.collect(account, dry_run=dry_run)
    account.bus.flush()
    if output == "json":
        _print_json({"dryRun": dry_run, "removed": [_litter_shown(one) for one in found]})
    else:
        _litter_table(found, dry_run=dry_run)
    return 0


# --- JSON -----------------------------------------------------------------------------------------


def shown(decision: Decision) -> dict[str, Any]:
    """Return *decision* as the JSON document of `outrider seed plan`."""
    return {
        "seeds": [_build_shown(build) for build in decision.wanted],
        "refused": [
            {"image": one.reference, "nodeClass": one.node_class, "reason": one.reason}
            for one in decision.refused
        ],
        "summary": {
            "toBuild": len(decision.builds),
            "ready": len(decision.wanted) - len(decision.builds),
            "refused": len(decision.refused),
            "buildDollars": round(sum(build.cost.build for build in decision.builds), 4),
            "dollarsAMonth": round(sum(build.cost.month for build in decision.wanted), 4),
        },
    }


def _build_shown(build: Build) -> dict[str, Any]:
    return {
        "seed": build.key,
        "ready": build.ready,
        "arch": build.arch,
        "family": build.family,
        "nodePools": list(build.node_pools),
        "nodeClasses": list(build.node_classes),
        "volumeGiB": build.volume_gib,
        "pods": build.pods,
        "images": [
            {
                "image": image.reference,
                "digest": image.digest,
                "compressedBytes": image.compressed_bytes,
            }
            for image in build.images
        ],
        "seconds": {
            "plainPull": round(build.ways.plain, 1),
            "parallelPull": round(build.ways.parallel, 1),
            "peer": round(build.ways.peer, 1),
            "seed": round(build.ways.seeded, 1),
        },
        "dollars": {
            "build": round(build.cost.build, 4),
            "storageAMonth": round(build.cost.storage_month, 4),
            "warmUpAMonth": round(build.cost.warm_up_month, 2),
        },
        "reason": build.reason,
    }


def _seed_shown(seed: Seed) -> dict[str, Any]:
    return {
        "seed": seed.key,
        "state": seed.state,
        "snapshot": seed.snapshot_id,
        "arch": seed.arch,
        "family": seed.family,
        "volumeGiB": seed.volume_gib,
        "nodeClasses": list(seed.node_classes),
        "images": dict(sorted(seed.images.items())),
        "warmUp": seed.warm_up,
        "zones": list(seed.zones),
        "created": _stamp(seed.created),
        "used": _stamp(seed.used),
        "retired": _stamp(seed.retired),
        "reason": seed.reason,
    }


def _litter_shown(one: Litter) -> dict[str, Any]:
    return {
        "kind": one.kind.value,
        "name": one.name,
        "seed": one.seed,
        "gib": one.gib,
        "reason": one.reason,
    }


def _print_json(document: Any) -> None:
    click.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2))


def _stamp(at: datetime | None) -> str | None:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ") if at else None


# --- tables ---------------------------------------------------------------------------------------


def _plan_table(decision: Decision) -> None:
    rows = [
        (
            build.key[:SHORT],
            "ready" if build.ready else "build",
            f"{build.arch} {build.family}",
            _few(build.node_pools),
            _few([_bare(image.reference) for image in build.images]),
            f"{_gigabytes(build):.1f}",
            *(f"{wait:.0f} s" for wait in _waits(build)),
            f"{build.cost.build:.2f}",
            f"{build.cost.month:,.2f}",
        )
        for build in decision.wanted
    ]
    _table(
        "Seeds",
        ("seed", "", "nodes", "NodePools", "images", "GB", *_WAYS, "$ once", "$/month"),
        rows,
        right=range(5, 12),
    )
    refused = [
        (_bare(one.reference), one.node_class, one.reason) for one in decision.refused[:LISTED]
    ]
    _table("Not seeded", ("image", "node class", "why"), refused)
    more = len(decision.refused) - len(refused)
    if more:
        click.echo(f"and {more} more; -o json has them all")
    click.echo(
        f"{len(decision.builds)} to build, {len(decision.wanted) - len(decision.builds)} ready, "
        f"{len(decision.refused)} images left out"
    )


_WAYS = ("plain pull", "parallel", "peer", "seed")


def _waits(build: Build) -> tuple[float, ...]:
    ways = build.ways
    return ways.plain, ways.parallel, ways.peer, ways.seeded


def _gigabytes(build: Build) -> float:
    distinct = {image.digest: image.compressed_bytes for image in build.images}
    return sum(distinct.values()) / 1000**3


def _seed_table(seeds: Sequence[Seed]) -> None:
    rows = [
        (
            seed.key[:SHORT],
            seed.state,
            seed.snapshot_id or "-",
            f"{seed.arch} {seed.family}",
            str(seed.volume_gib),
            _few(seed.node_classes),
            _few([_bare(name) for name in sorted(seed.images)]),
            _stamp(seed.created) or "-",
            _stamp(seed.used) or "-",
        )
        for seed in seeds
    ]
    headings = ("seed", "state", "snapshot", "nodes", "GiB", "node classes", "images")
    _table("Seeds", (*headings, "created", "used"), rows, right=(4,))
    if not seeds:
        click.echo("no seeds")


def _litter_table(found: Sequence[Litter], *, dry_run: bool) -> None:
    rows = [(one.kind.value, one.name, str(one.gib or "-"), one.reason) for one in found]
    title = "Would go" if dry_run else "Gone"
    _table(title, ("kind", "name", "GiB", "why"), rows, right=(2,))
    if not found:
        click.echo("nothing to remove")


def _table(
    title: str,
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    right: Iterable[int] = (),
) -> None:
    if not rows:
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDE
    table = Table(box=SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
    aligned = frozenset(right)
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="right" if place in aligned else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _few(names: Sequence[str]) -> str:
    rest = len(names) - 2
    return ", ".join(names[:2]) + (f" and {rest} more" if rest > 0 else "")


def _bare(reference: str) -> str:
    """Return a reference without ECR's long host: a table is not wide enough for both."""
    head, slash, rest = reference.partition("/")
    return rest if slash and ECR in head else reference
