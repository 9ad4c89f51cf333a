"""`outrider local`: the whole application on this machine, in the foreground, until Ctrl-C.

Standard output carries exactly two lines, once everything is ready; all else goes to standard
error. What it makes (a kubeconfig, a note of its process) lies in the temporary folder and goes
when it ends.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

import click

DEFAULT_PORT = 4566
_HELP = "outrider local up --speed 10 &  # then: outrider local down"


class Refusal(click.ClickException):
    """Something that the caller can mend, said in one line; exit status 2."""

    exit_code = 2


@click.group(epilog=f"Example: {_HELP}")
def command() -> None:
    """Run the application on an embedded cloud on this machine."""


@command.command(
    epilog="Example: outrider local up --port 4566 --speed 10; it prints the two lines to export"
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=DEFAULT_PORT,
    show_default=True,
    help="Port of the AWS endpoint on 127.0.0.1; 0 takes a free one.",
)
@click.option(
    "--kubeconfig",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Use this API server, its controllers and its scheduler instead of the embedded one.",
)
@click.option(
    "--speed",
    type=click.FloatRange(0.1, 600),
    default=1.0,
    show_default=True,
    help="How many times as fast as real time the cloud's clock runs.",
)
@click.option(
    "--template",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Another template.yaml than the repository's.",
)
@click.option("--seed", type=int, default=0, help="What the cloud's dice begin with.")
@click.option("--verbose", is_flag=True, help="Write the functions' logs to standard error.")
def up(
    port: int,
    kubeconfig: Path | None,
    speed: float,
    template: Path | None,
    seed: int,
    *,
    verbose: bool,
) -> None:
    """Start the embedded cloud and stay in the foreground; Ctrl-C ends it."""
    from outrider.errors import OutriderError
    from outrider.local import session

    for other in session.running():
        if port and other.port == port:
            raise Refusal(
                f"an embedded cloud runs on port {port} already (process {other.pid});"
                f" `outrider local down --port {port}` ends it"
            )
    end = threading.Event()
    heard: list[signal.Signals] = []

    def ask(number: int, _frame: object) -> None:
        heard.append(signal.Signals(number))
        end.set()

    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, ask)
    out, sys.stdout = sys.stdout, sys.stderr
    _log(verbose=verbose)
    folder = Path(tempfile.mkdtemp(prefix="outrider-local-"))
    try:
        _serve(
            folder,
            end,
            out,
            port,
            kubeconfig,
            speed,
            template or repository_template(),
            seed,
            verbose,
        )
    except OSError as error:
        raise Refusal(f"port {port}: {error.strerror or error}") from error
    except OutriderError as error:
        raise Refusal(str(error)) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        sys.stdout = out
    with suppress(OSError):  # the terminal may be what has gone
        if heard[0] is not signal.SIGINT:  # not Ctrl-C: somebody else did it
            click.echo(f"outrider: the cloud was ended by {heard[0].name}", err=True)
        sys.stderr.flush()
    # Functions may be at work on threads of their own; waiting for them is nobody's wish now.
    os._exit(0)


@command.command(epilog="Example: outrider local down")
@click.option("--port", type=click.IntRange(1, 65535), help="The one on this port.")
@click.option("--all", "every", is_flag=True, help="All of them.")
def down(port: int | None, *, every: bool) -> None:
    """End the embedded cloud that `outrider local up` started.

    Where several of yours run, it is the one that AWS_ENDPOINT_URL names.
    """
    from outrider.local import session

    if port and every:
        raise click.UsageError("--port names one, --all means all: give one of them")
    running = session.running()
    chosen = [one for one in running if port in (None, one.port)]
    if not chosen:
        click.echo("outrider: no embedded cloud runs", err=True)
    elif len(chosen) > 1 and not every:
        named = os.environ.get("AWS_ENDPOINT_URL", "").rpartition(":")[2].rstrip("/")
        chosen = [one for one in running if str(one.port) == named]
        if not chosen:
            several = ", ".join(f"port {one.port} (process {one.pid})" for one in running)
            raise Refusal(f"several run: {several}; name one by --port, or end them by --all")
    for one in chosen:
        if not one.end():
            raise click.ClickException(f"process {one.pid} does not end")


def _serve(  # noqa: PLR0917 - one call, from one place
    folder: Path,
    end: threading.Event,
    out: object,
    port: int,
    kubeconfig: Path | None,
    speed: float,
    template: Path,
    seed: int,
    verbose: bool,  # noqa: FBT001 - handed through
) -> None:
    """Run a cloud until *end* is set."""
    from outrider.local import session
    from outrider.local.clock import ScaledClock
    from outrider.local.cloud import Cloud

    cloud = Cloud(
        template=template,
        clock=ScaledClock(speed),
        port=port,
        seed=seed,
        kubeconfig=kubeconfig,
        verbose=verbose,
    )
    # Ctrl-C while it starts is heard at once: all that exists by then goes with the process.
    failure: list[BaseException] = []

    def start() -> None:
        try:
            cloud.start()
        except BaseException as error:  # noqa: BLE001 - raised again below
            failure.append(error)

    starting = threading.Thread(target=start, name="start", daemon=True)
    starting.start()
    while starting.is_alive():
        if end.is_set():
            return
        starting.join(0.05)
    if failure:
        raise failure[0]
    try:
        with session.noted(cloud.server.port):
            file = kubeconfig or folder / "kubeconfig"
            if kubeconfig is None:
                file.touch(mode=0o600)
                file.write_text(cloud.cluster.kubeconfig() if cloud.cluster else "")
            if not end.is_set():
                print(f"export AWS_ENDPOINT_URL={cloud.url}", file=out)  # type: ignore[call-overload]
                print(f"export KUBECONFIG={file}", file=out, flush=True)  # type: ignore[call-overload]
            end.wait()
    finally:
        cloud.stop()


def repository_template() -> Path:
    """Return the repository's template.yaml: of this folder, above it, or beside the package."""
    import outrider

    here = Path.cwd()
    source = Path(outrider.__file__).resolve()
    for folder in (*source.parents, here, *here.parents):
        candidate = folder / "template.yaml"
        if candidate.is_file() and (folder / "functions").is_dir():
            return candidate
    raise Refusal("no template.yaml: run it in the repository or name it by --template")


def _log(*, verbose: bool) -> None:
    """Send the cloud's own words to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("outrider.local")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO if verbose or "OUTRIDER_DEBUG" in os.environ else logging.WARNING)
    logger.propagate = False
