"""What a registry says of an image: its digest, its size, the architectures it has.

Images in ECR are read with BatchGetImage, which takes our role and returns the manifest itself, so
no layer is touched; an index is followed to its children. Other registries are asked over the OCI
distribution API without credentials, which is what a public image needs, and what a builder has.
An image that is not there is NotFound, one that we may not see Denied, each with the registry's
name: that is known before a builder is paid for. Refuses to know which images matter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import urllib3
from botocore.exceptions import ClientError

from outrider.adapters.aws import errors
from outrider.adapters.aws.session import Session
from outrider.core.seeding.images import Image
from outrider.errors import Denied, NotFound

Json = Mapping[str, Any]

ECR = re.compile(r"^(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[\w-]+)\.amazonaws\.com(?:\.cn)?$")
DOCKER_HUB = "registry-1.docker.io"
INDEX_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
MANIFEST_TYPES = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
NODES = frozenset({"amd64", "arm64"})
SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where an image lies: registry, repository, and its tag or digest."""

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""


def place(reference: str) -> Place:
    """Return where the image *reference*, as pods name it, lies."""
    name, _, digest = reference.partition("@")
    head, slash, rest = name.partition("/")
    hosted = bool(slash) and ("." in head or ":" in head or head == "localhost")
    registry, path = (head, rest) if hosted else (DOCKER_HUB, name)
    path, _, tag = path.partition(":")
    if not hosted and "/" not in path:
        path = f"library/{path}"
    if registry == "docker.io":
        registry = DOCKER_HUB
    return Place(registry, path, tag or ("" if digest else "latest"), digest)


class Registry:
    """Looks images up.

    A manifest without an index does not say its architecture; as the images asked about run on
    nodes, it fits those.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._pool: urllib3.PoolManager | None = None

    def image(self, reference: str) -> Image:
        """Return the image *reference*; raise NotFound or Denied where none is shown to us."""
        where = place(reference)
        fetch = self._from_ecr if ECR.match(where.registry) else self._from_oci
        digest, document = fetch(where, where.digest or where.tag)
        if document.get("mediaType") in INDEX_TYPES or "manifests" in document:
            return self._index(reference, where, digest, document)
        return Image(reference, digest, _size(document), tuple(sorted(NODES)))

    def _index(self, reference: str, where: Place, digest: str, document: Json) -> Image:
        children = {
            str(child["platform"]["architecture"]): str(child["digest"])
            for child in document.get("manifests", ())
            if child.get("platform", {}).get("architecture") in NODES
            and child["platform"].get("os", "linux") == "linux"
        }
        if not children:
            raise NotFound("it has no manifest for linux on amd64 or arm64", "NoPlatform")
        fetch = self._from_ecr if ECR.match(where.registry) else self._from_oci
        sizes = [_size(fetch(where, one)[1]) for one in children.values()]
        return Image(reference, digest, max(sizes), tuple(sorted(children)))

    def _from_ecr(self, where: Place, name: str) -> tuple[str, Json]:
        match = ECR.match(where.registry)
        image_id = {"imageDigest" if name.startswith("sha256:") else "imageTag": name}
        try:
            answer = self._session.client("ecr").batch_get_image(
                registryId=match["account"] if match else "",
                repositoryName=where.repository,
                imageIds=[image_id],
                acceptedMediaTypes=[*INDEX_TYPES, *MANIFEST_TYPES],
            )
        except ClientError as error:
            code = errors.code_of(error)
            if code in errors.NOT_FOUND:
                raise NotFound(f"ECR has no repository {where.repository}", code) from error
            if code in errors.DENIED:
                raise Denied(f"ECR does not let us read {where.repository}", code) from error
            raise errors.translated(error, "BatchGetImage") from error
        for image in answer.get("images", ()):
            return str(image["imageId"]["imageDigest"]), json.loads(image["imageManifest"])
        raise NotFound(f"ECR has no image {where.repository}:{name}", "ImageNotFound")

    def _from_oci(self, where: Place, name: str) -> tuple[str, Json]:
        url = f"https://{where.registry}/v2/{where.repository}/manifests/{name}"
        headers = {"Accept": ", ".join((*INDEX_TYPES, *MANIFEST_TYPES))}
        try:
            answer = self._get(url, headers)
            if answer.status == 401:
                token = self._anonymous(answer.headers.get("WWW-Authenticate", ""))
                if token is None:
                    raise Denied(f"{where.registry} wants a login, and builders have none", "401")
                answer = self._get(url, {**headers, "Authorization": f"Bearer {token}"})
        except urllib3.exceptions.HTTPError as error:
            raise NotFound(f"{where.registry} does not answer", "Unreachable") from error
        if answer.status in {401, 403}:
            raise Denied(
                f"{where.registry} does not let us read {where.repository}", str(answer.status)
            )
        digest = answer.headers.get("Docker-Content-Digest", "")
        if not digest and name.startswith("sha256:"):
            digest = name
        if answer.status != 200 or not digest:
            raise NotFound(
                f"{where.registry} has no image {where.repository}:{name}", str(answer.status)
            )
        return digest, answer.json()

    def _anonymous(self, challenge: str) -> str | None:
        parts = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
        realm = parts.pop("realm", "")
        if not realm.startswith("https://"):
            return None
        answer = self._get(realm, {}, parts)
        if answer.status != 200:
            return None
        document = answer.json()
        return str(document.get("token") or document.get("access_token") or "") or None

    def _get(
        self, url: str, headers: Mapping[str, str], fields: Mapping[str, str] | None = None
    ) -> urllib3.BaseHTTPResponse:
        if self._pool is None:
            self._pool = urllib3.PoolManager(timeout=SECONDS, retries=False)
        return self._pool.request("GET", url, headers=headers, fields=fields)


def _size(manifest: Json) -> int:
    return sum(int(layer.get("size", 0)) for layer in manifest.get("layers", ()))
