"""User data of a seed builder: pull, pin, verify, power off. Nothing of an image is ever run.

The builder is a machine of the same AMI family as the nodes, so images are unpacked by the same
containerd with the same snapshotter. It reads registries with its instance role; there is no secret
in here. Images are pulled by the digests that were planned and tagged as pods name them, so a tag
that moves meanwhile changes nothing of what is on the volume.

How it reports: a builder that is done says on its console which digests it holds under which names
(`OUTRIDER-SEED-HOLDS`) and powers itself off (its state becomes `stopped`, with its volume at
rest); one that fails says `OUTRIDER-SEED-FAILED` and stays up for the poll to read it. A timer
behind everything powers it off after an hour, long after the poll has stopped believing in it.

AL2023: a script formats the data volume (label outrider-seed), mounts it as containerd's root and
pulls through the CRI. Bottlerocket: its own bootstrap container runs the script and asks the host's
containerd, which is started out of its turn: in order, it would wait for this very container.

Refuses references that are not image references: they become words of a shell script.
"""

from __future__ import annotations

import base64
import json
import re
import shlex
from collections.abc import Sequence

from outrider.core.catalog.family import Family
from outrider.core.launch.userdata import bottlerocket, mime
from outrider.core.seeding.images import Image, canonical
from outrider.errors import InvalidManifest

DEVICE = "/dev/xvdb"
LABEL = "outrider-seed"
FAILED = "OUTRIDER-SEED-FAILED"
HOLDS = "OUTRIDER-SEED-HOLDS"
DONE = "OUTRIDER-SEED-DONE"
DEAD_MAN_MINUTES = 60
BOOTSTRAP_IMAGE = "public.ecr.aws/bottlerocket/bottlerocket-bootstrap:v0.4.0"
BOTTLEROCKET_STORE = "/.bottlerocket/rootfs/local"  # the data volume's mount, from the container
LAST_WORDS_SECONDS = 30  # so that a poll of the running console hears them

_REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,500}")

_COMMON = """\
say() {{ echo "$1" > {console}; }}
fail() {{ say "{failed} $1"; exit 1; }}
leave() {{ code=$?; [ $code -eq 0 ] || say "{failed} exit $code"; }}
trap leave EXIT
"""

_AL2023 = """\
#!/bin/sh
set -u
shutdown -h +{minutes} "a seed builder outlived its time"
{common}
root=/var/lib/containerd
device=$(readlink -f {device}) && [ -b "$device" ] || fail "no volume at {device}"
systemctl stop containerd kubelet 2>/dev/null
mkfs.xfs -f -L {label} "$device" || fail "the volume cannot be formatted"
mkdir -p $root
mount -o noatime "$device" $root || fail "the volume cannot be mounted"
systemctl start containerd || fail "containerd does not start"
login() {{
  case "$1" in *.dkr.ecr.*) ;; *) return 0 ;; esac
  printf '{{"apiVersion":"%s","kind":"CredentialProviderRequest","image":"%s"}}' \
    credentialprovider.kubelet.k8s.io/v1 "$1" |
    /etc/eks/image-credential-provider/ecr-credential-provider |
    python3 -c 'import json, sys
for one in json.load(sys.stdin)["auth"].values():
    print(one["username"], one["password"], sep=":")' | head -n 1
}}
store() {{ ctr -n k8s.io images "$@"; }}
fetch() {{
  creds=$(login "$1") || return 1
  crictl pull ${{creds:+--creds "$creds"}} "$1"
}}
{pulling}
{pulls}
systemctl stop containerd || fail "containerd does not stop"
sync
umount $root || fail "the volume does not come to rest"
{telling}
shutdown -c; poweroff
"""

_BOTTLEROCKET = """\
#!/bin/sh
set -u
host() {{ chroot /.bottlerocket/rootfs "$@"; }}
( sleep {seconds}; host systemctl poweroff ) &
{common}
host systemctl start --job-mode=ignore-dependencies containerd || fail "containerd does not start"
socket=/run/containerd/containerd.sock
store() {{ host ctr -a $socket -n k8s.io images "$@"; }}
fetch() {{ host host-ctr pull-image --containerd-socket $socket --namespace k8s.io --source "$1"; }}
{pulling}
{pulls}
host systemctl stop containerd || fail "containerd does not stop"
sync
{telling}
host systemctl poweroff
"""

# name as pods write it, digest, name as containerd keeps it, and the source: repository@digest
_PULLING = """\
holds() { store ls "name==$1" | awk -v wanted="$2" '$3 == wanted {n++} END {exit !n}'; }
pull() {
  n=0
  until fetch "$4"; do
    n=$((n + 1)); [ $n -lt 4 ] || fail "$1: cannot be pulled"; sleep $((n * 5))
  done
  holds "$4" "$2" || fail "$1: is not $2"
  [ "$3" = "$4" ] || store tag --force "$4" "$3" > /dev/null || fail "$1: cannot be named"
  holds "$3" "$2" || fail "$1: is not $2 under its name"
  for name in "$3" "$4"; do
    store label "$name" io.cri-containerd.image=managed io.cri-containerd.pinned=pinned \
      > /dev/null || fail "$1: cannot be pinned"
  done
  size=$(df -P {root} | awk 'NR == 2 { sub("%", "", $5); print $5 }')
  [ "${size:-0}" -lt 85 ] || fail "$1: fills the volume to $size %"
}"""


def render(
    images: Sequence[Image], family: Family, dead_man_minutes: int = DEAD_MAN_MINUTES
) -> str:
    """Return the user data of a builder that puts *images* on its data volume.

    It powers itself off after *dead_man_minutes*, whatever has become of it.
    """
    script = script_for(images, family, dead_man_minutes)
    if family is Family.BOTTLEROCKET:
        return _bootstrap_container(script)
    return mime.join([mime.Part(mime.SHELL_SCRIPT, script)])


def script_for(
    images: Sequence[Image],
    family: Family,
    dead_man_minutes: int = DEAD_MAN_MINUTES,
    console: str = "/dev/console",
) -> str:
    """Return the script that a builder of *family* runs, its words going to *console*."""
    pulls = "\n".join(" ".join(["pull", *map(shlex.quote, _words(image))]) for image in images)
    telling = "\n".join(
        [
            *(f'say "{HOLDS} {_checked(one.reference)} {_checked(one.digest)}"' for one in images),
            f'say "{DONE}"; sleep {LAST_WORDS_SECONDS}',
        ]
    )
    store = BOTTLEROCKET_STORE if family is Family.BOTTLEROCKET else "/var/lib/containerd"
    parts = {
        "common": _COMMON.format(failed=FAILED, console=console),
        "pulling": _PULLING.replace("{root}", store),
        "pulls": pulls,
        "telling": telling,
    }
    if family is Family.BOTTLEROCKET:
        return _BOTTLEROCKET.format(seconds=dead_man_minutes * 60, **parts)
    return _AL2023.format(minutes=dead_man_minutes, device=DEVICE, label=LABEL, **parts)


def builder_image(family: Family, arch: str, kubernetes_version: str) -> str:
    """Return the SSM parameter of the AMI that builds for *family* and *arch*: no GPU is needed."""
    machine = "arm64" if arch == "arm64" else "x86_64"
    if family is Family.BOTTLEROCKET:
        return f"/aws/service/bottlerocket/aws-k8s-{kubernetes_version}/{machine}/latest/image_id"
    return (
        f"/aws/service/eks/optimized-ami/{kubernetes_version}/amazon-linux-2023/{machine}"
        "/standard/recommended/image_id"
    )


def held(console: str) -> dict[str, str] | None:
    """Return the names and digests that a builder says it holds; None until it has said all."""
    found: dict[str, str] = {}
    done = False
    for line in console.splitlines():
        _, said, rest = line.partition(HOLDS)
        words = rest.split()
        if said and len(words) >= 2:
            found[words[0]] = words[1]
        done = done or DONE in line
    return found if done else None


def complaint(console: str) -> str:
    """Return what a builder's *console* says went wrong; "" where it says nothing of the kind."""
    for line in console.splitlines():
        _, found, rest = line.partition(FAILED)
        if found:
            return rest.strip() or "the builder failed"
    return ""


def _bootstrap_container(script: str) -> str:
    return bottlerocket.write(
        {
            "settings": {
                "kubernetes": {"standalone-mode": True},
                "bootstrap-containers": {
                    "seed": {
                        "source": BOOTSTRAP_IMAGE,
                        "mode": "once",
                        "essential": True,
                        "user-data": base64.b64encode(script.encode()).decode(),
                    }
                },
            }
        }
    )


def _words(image: Image) -> tuple[str, str, str, str]:
    """Return what `pull` is told of *image*, each a word of the shell."""
    repository, tag = canonical(image.reference)
    source = f"{repository}@{image.digest}"
    name = f"{repository}:{tag}" if tag else source
    return (
        _checked(image.reference),
        _checked(image.digest),
        _checked(name),
        _checked(source),
    )


def _checked(word: str) -> str:
    if not _REFERENCE.fullmatch(word):
        raise InvalidManifest(f"{json.dumps(word[:80])} is not an image reference")
    return word
