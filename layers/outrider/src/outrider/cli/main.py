"""`outrider`: one command, its verbs loaded when they are asked for.

Decides how verbs are found (by module, so that `outrider plan` never pays for the embedded
cloud), what is said when a verb needs an extra that is not installed, and how failures end: bad
input is one line on standard error and exit status 2, never a traceback. Refuses to know what a
verb does.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import click

from outrider.errors import InvalidManifest, OutriderError

BAD_INPUT = 2
LEAN = {
    "PYDANTIC_DISABLE_PLUGINS": "__all__",  # or it looks through every package that is installed
    "OPENBLAS_NUM_THREADS": "1",  # or numpy starts threads for matrices that nobody multiplies
}
"""What libraries are told before they are imported: a plan of one pod is mostly imports."""
COLLECT_AFTER = 100_000  # new objects; Python's own 700 finds nothing a hundred times a plan


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb: what it does in a line, and the extra that it needs."""

    summary: str
    extra: str = "cli"


VERBS: Mapping[str, Verb] = {
    "plan": Verb("What to launch for the pending pods of some manifests."),
    "explain": Verb("Why one pod goes where it goes, or nowhere."),
    "disrupt": Verb("What voluntary disruption would do now."),
    "report": Verb("What the nodes cost as they are, against our plan; what constraints cost."),
    "manifests": Verb("What goes into the cluster: RBAC, CRDs, the webhook configuration."),
    "local": Verb("The whole application on this machine.", "local"),
    "demo": Verb("The main job on the embedded cloud, narrated.", "local"),
    "seed": Verb("Snapshots that hold images: plan, run, list, gc."),
    "trace": Verb("The chain of decisions behind a pod or a node."),
    "doctor": Verb("Read-only checks of account and cluster, each finding with its fix."),
    "uninstall": Verb("Take everything of outrider out of account and cluster."),
}


class Verbs(click.Group):
    """The verbs, imported one at a time."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs that this installation has, in the order of the documentation."""
        del ctx
        return [name for name in VERBS if _installed(name)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a verb, importing its module."""
        del ctx
        verb = VERBS.get(cmd_name)
        if verb is None or not _installed(cmd_name):
            return None
        try:
            command = import_module(f"outrider.cli.{cmd_name}").command
        except ModuleNotFoundError as error:
            raise click.ClickException(
                f"`outrider {cmd_name}` needs {error.name}: pip install 'outrider[{verb.extra}]'"
            ) from error
        return command if isinstance(command, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the verbs without importing them."""
        with formatter.section("Verbs"):
            formatter.write_dl([(name, VERBS[name].summary) for name in self.list_commands(ctx)])


def _installed(verb: str) -> bool:
    from importlib.util import find_spec

    return find_spec(f"outrider.cli.{verb}") is not None


def _version(context: click.Context, _option: click.Parameter, wanted: bool) -> None:  # noqa: FBT001 (click's)
    if wanted and not context.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"outrider {version('outrider')}")
        context.exit()


@click.group(
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: outrider plan examples/nodepools pods.yaml -o json",
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_version,
    help="Print the version and leave.",
)
def outrider() -> None:
    """GPU nodes for Amazon EKS, planned from manifests and launched by events."""


def main(arguments: list[str] | None = None) -> Any:
    """Run the command; the process ends with its exit status."""
    gc.set_threshold(COLLECT_AFTER)
    for name, value in LEAN.items():
        os.environ.setdefault(name, value)
    try:
        status = outrider.main(args=arguments, prog_name="outrider", standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.UsageError as error:
        _say(error.format_message())
        verb = error.ctx.command_path if error.ctx else "outrider"
        click.echo(f"Try '{verb} --help'.", err=True)
        sys.exit(BAD_INPUT)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except InvalidManifest as error:
        _say(str(error))
        sys.exit(BAD_INPUT)
    except OutriderError as error:
        _say(str(error))
        sys.exit(1)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "outrider":
            raise
        _say(f"{error.name} is not installed: this verb needs pip install 'outrider[local]'")
        sys.exit(1)
    except BrokenPipeError:
        sys.stderr.close()  # whoever read us has left; nothing is lost but the rest of the answer
        sys.exit(1)
    sys.exit(status if isinstance(status, int) else 0)


def _say(message: str) -> None:
    click.echo("outrider: " + " ".join(message.split()), err=True)


if __name__ == "__main__":
    main()
