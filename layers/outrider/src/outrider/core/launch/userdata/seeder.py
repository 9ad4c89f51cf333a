"""User data of a seed builder: pull, pin, verify, power off. Nothing of an image is ever run.

The builder is a machine of the same AMI family as the nodes, so images are unpacked by the same
containerd with the same snapshotter. It reads registries with its instance role; there is no secret
in here. How it reports: a builder that is done powers itself off (its state becomes `stopped`, with
its volume at rest); one that fails says `OUTRIDER-SEED-FAILED` on its console and stays up for the
poll to read it. A timer behind everything powers it off after an hour, long after the poll has
stopped believing in it.

AL2023: a script formats the data volume (label outrider-seed), mounts it as containerd's root and
pulls through the CRI. Bottlerocket: a bootstrap container runs the script and asks the host's
containerd.

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
from outrider.core.seeding import Image
from outrider.errors import InvalidManifest

DEVICE = "/dev/xvdb"
LABEL = "outrider-seed"
FAILED = "OUTRIDER-SEED-FAILED"
DONE = "OUTRIDER-SEED-DONE"
DEAD_MAN_MINUTES = 60

_REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,500}")

_COMMON = """\
fail() {{ echo "{failed} $1" | tee /dev/console; exit 1; }}
trap 'code=$?; [ $code -eq 0 ] || echo "{failed} exit $code" > /dev/console' EXIT
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
mkdir -p $root && mount -o noatime "$device" $root || fail "the volume cannot be mounted"
systemctl start containerd || fail "containerd does not start"
login() {{
  case "$1" in *.dkr.ecr.*) ;; *) return 0 ;; esac
  printf '{{"apiVersion":"%s","kind":"CredentialProviderRequest","image":"%s"}}' \\
    credentialprovider.kubelet.k8s.io/v1 "$1" |
    /etc/eks/image-credential-provider/ecr-credential-provider |
    python3 -c 'import json, sys
for one in json.load(sys.stdin)["auth"].values():
    print(one["username"], one["password"], sep=":")' | head -n 1
}}
pull() {{
  creds=$(login "$1") || fail "$1: no credentials"
  n=0
  until crictl pull ${{creds:+--creds "$creds"}} "$1"; do
    n=$((n + 1)); [ $n -lt 4 ] || fail "$1: cannot be pulled"; sleep $((n * 5))
  done
  crictl inspecti -o json "$1" | grep -q "$2" || fail "$1: is not $2 any more"
  for name in $(ctr -n k8s.io images ls -q); do
    ctr -n k8s.io images label "$name" io.cri-containerd.pinned=pinned > /dev/null
  done
}}
{pulls}
systemctl stop containerd && sync && umount $root || fail "the volume does not come to rest"
echo "{done}" > /dev/console
shutdown -c; poweroff
"""

_BOTTLEROCKET = """\
#!/bin/sh
set -u
host() {{ chroot /.bottlerocket/rootfs "$@"; }}
( sleep {seconds}; host systemctl poweroff ) &
{common}
host systemctl start containerd || fail "containerd does not start"
socket=/run/containerd/containerd.sock
pull() {{
  n=0
  until host host-ctr pull-image --containerd-socket $socket --namespace k8s.io --source "$1"; do
    n=$((n + 1)); [ $n -lt 4 ] || fail "$1: cannot be pulled"; sleep $((n * 5))
  done
  host ctr -a $socket -n k8s.io images ls | grep -q "$2" || fail "$1: is not $2 any more"
  for name in $(host ctr -a $socket -n k8s.io images ls -q); do
    host ctr -a $socket -n k8s.io images label "$name" \\
      io.cri-containerd.image=managed io.cri-containerd.pinned=pinned > /dev/null
  done
}}
{pulls}
host systemctl stop containerd; sync
echo "{done}" > /dev/console
host systemctl poweroff
"""


def render(images: Sequence[Image], family: Family) -> str:
    """Return the user data of a builder that puts *images* on its data volume."""
    pulls = "\n".join(
        f"pull {shlex.quote(_checked(image.reference))} {shlex.quote(_checked(image.digest))}"
        for image in images
    )
    common = _COMMON.format(failed=FAILED)
    if family is Family.BOTTLEROCKET:
        script = _BOTTLEROCKET.format(
            seconds=DEAD_MAN_MINUTES * 60, common=common, pulls=pulls, done=DONE
        )
        return _bootstrap_container(script)
    script = _AL2023.format(
        minutes=DEAD_MAN_MINUTES,
        common=common,
        device=DEVICE,
        label=LABEL,
        pulls=pulls,
        done=DONE,
    )
    return mime.join([mime.Part(mime.SHELL_SCRIPT, script)])


def builder_image(family: Family, arch: str, kubernetes_version: str) -> str:
    """Return the SSM parameter of the AMI that builds for *family* and *arch*: no GPU is needed."""
    machine = "arm64" if arch == "arm64" else "x86_64"
    if family is Family.BOTTLEROCKET:
        return f"/aws/service/bottlerocket/aws-k8s-{kubernetes_version}/{machine}/latest/image_id"
    return (
        f"/aws/service/eks/optimized-ami/{kubernetes_version}/amazon-linux-2023/{machine}"
        "/standard/recommended/image_id"
    )


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
                        "mode": "once",
                        "essential": True,
                        "user-data": base64.b64encode(script.encode()).decode(),
                    }
                },
            }
        }
    )


def _checked(word: str) -> str:
    if not _REFERENCE.fullmatch(word):
        raise InvalidManifest(f"{json.dumps(word[:80])} is not an image reference")
    return word
