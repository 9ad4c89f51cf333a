"""Seed builders: machines whose user data pulls images onto a volume and then powers them off.

The script is not run; what it says is done. Its `pull` lines name the images, ECR says how large
they are, pulling takes its time on the clock, and the builder ends up stopped with the images on
its data volume, having said on its console what it holds. A snapshot of that volume carries them,
and so does every node that starts with it. An image that ECR has not is said on the console, as the
script would, and the builder stays up.
"""

from __future__ import annotations

import base64
import json
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from email import message_from_string
from typing import Any

from botocore.exceptions import ClientError

from outrider.core.launch.userdata.seeder import DEVICE, DONE, FAILED, HOLDS
from outrider.core.seeding.images import UNPACKED_FACTOR
from outrider.local.clock import Clock
from outrider.local.instances import Instances
from outrider.local.region import REGION
from outrider.local.wire import Call, Refused

SEED_TAG = "outrider.dev/seed"
BOOT_SECONDS = 20.0
BYTES_PER_SECOND = 300e6
# Of an image in a registry that nobody here can ask.
UNKNOWN_BYTES = 1_000_000_000

_PULL = re.compile(r"^pull '?([\w./:@-]+)'? '?([\w./:@-]+)'?\b", re.MULTILINE)
_ECR = re.compile(r"^\d{12}\.dkr\.ecr\.[\w-]+\.amazonaws\.com/(?P<repository>[^:@]+)")


def images_on(thing: Any) -> frozenset[str]:
    """Return the images on a volume or a snapshot."""
    images: frozenset[str] = getattr(thing, "outrider_images", frozenset())
    return images


@dataclass(slots=True)
class Builders:
    """Every seed builder of the account."""

    instances: Instances
    clock: Clock
    client: Callable[[str], Any]
    _consoles: dict[str, str] = field(default_factory=dict)

    def install(self) -> None:
        """Follow builders, and answer what their consoles say."""
        self.instances.on_state.append(self._changed)
        self.instances.endpoint.serve("ec2:GetConsoleOutput", self._console)

    def _changed(self, instance: Any, state: str) -> None:
        tags = {tag["key"]: tag["value"] for tag in instance.get_tags()}
        if SEED_TAG not in tags or state != "running":
            return
        script = script_of(base64.b64decode(str(instance.user_data or "")).decode())
        pulls = _PULL.findall(script)
        total, missing = 0, ""
        for reference, digest in pulls:
            size = self._bytes(reference, digest)
            if size is None:
                missing = missing or reference
            total += size or 0
        wait = BOOT_SECONDS + total / BYTES_PER_SECOND

        def finish() -> None:
            if instance.state != "running":
                return
            if missing or not pulls:
                said = f"{missing}: cannot be pulled" if missing else "nothing to pull"
                self._consoles[instance.id] = f"{FAILED} {said}\n"
                return
            told = "".join(f"{HOLDS} {name} {digest}\n" for name, digest in pulls)
            self._consoles[instance.id] = f"{told}{DONE}\n"
            names = frozenset(name for pair in pulls for name in _names(*pair))
            self._fill(instance, names, int(total * UNPACKED_FACTOR))
            self.instances.power_off(instance)

        self.clock.call_later(wait, finish)

    def _bytes(self, reference: str, digest: str) -> int | None:
        """Return an image's compressed size; None where ECR has none of that digest."""
        found = _ECR.match(reference)
        if found is None:
            return UNKNOWN_BYTES
        try:
            answer = self.client("ecr").batch_get_image(
                repositoryName=found["repository"], imageIds=[{"imageDigest": digest}]
            )
        except ClientError:
            return None
        for image in answer["images"]:
            manifest = json.loads(image["imageManifest"])
            return sum(int(layer.get("size", 0)) for layer in manifest.get("layers", ()))
        return None

    def _fill(self, instance: Any, images: frozenset[str], on_disk: int) -> None:
        """Put the images on the builder's data volume."""
        with self.instances.endpoint.lock:
            for device, attachment in instance.get_block_device_mapping:
                if device == DEVICE:
                    volume = instance.ec2_backend.volumes[attachment.volume_id]
                    volume.outrider_images = images
                    volume.outrider_bytes = on_disk

    def _console(self, wanted: dict[str, Any], _call: Call) -> dict[str, Any]:
        identity = wanted["InstanceId"]
        if self.instances.find(identity) is None:
            raise Refused(
                "InvalidInstanceID.NotFound", f"The instance ID '{identity}' does not exist"
            )
        said = self._consoles.get(identity, f"booting in {REGION}\n")
        return {
            "InstanceId": identity,
            "Timestamp": self.clock.now(),
            "Output": base64.b64encode(said.encode()).decode(),
        }


def script_of(user_data: str) -> str:
    """Return the shell script in a builder's user data: a MIME part, or Bottlerocket's
    bootstrap.
    """
    if user_data.lstrip().startswith(("MIME-Version", "Content-Type")):
        parts = message_from_string(user_data).walk()
        texts = [str(part.get_payload()) for part in parts if not part.is_multipart()]
        return "\n".join(texts)
    try:
        containers = tomllib.loads(user_data)["settings"]["bootstrap-containers"]
    except (tomllib.TOMLDecodeError, KeyError, TypeError):
        return user_data
    scripts = (base64.b64decode(one.get("user-data", "")) for one in containers.values())
    return "\n".join(script.decode() for script in scripts)


def _names(reference: str, digest: str) -> tuple[str, str]:
    """Return an image by both names that pods call it: as they wrote it, and by digest."""
    repository = reference.partition("@")[0]
    head, slash, last = repository.rpartition("/")
    bare = head + slash + last.partition(":")[0]
    return reference, f"{bare}@{digest}"
