"""An image push, as ECR sees one: the manifest is put, and EventBridge is told.

The layers are not there: nobody in the embedded cloud runs them. Their sizes are, since they decide
what a seed saves.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress

from outrider.local.aws import ACCOUNT, REGION
from outrider.local.cloud import Cloud

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
CONFIG = "application/vnd.oci.image.config.v1+json"


def put_image(cloud: Cloud, repository: str, tag: str, layers: tuple[int, ...]) -> str:
    """Put an image with *layers* of so many bytes into ECR; return its digest."""
    ecr = cloud.client("ecr")
    with suppress(ecr.exceptions.RepositoryAlreadyExistsException):
        ecr.create_repository(repositoryName=repository)
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "size": 7023, "digest": _digest(f"{repository}:{tag}")},
        "layers": [
            {"mediaType": LAYER, "size": size, "digest": _digest(f"{repository}:{tag}:{index}")}
            for index, size in enumerate(layers)
        ],
    }
    answer = ecr.put_image(
        repositoryName=repository,
        imageTag=tag,
        imageManifest=json.dumps(document),
        imageManifestMediaType=MANIFEST,
    )
    return str(answer["image"]["imageId"]["imageDigest"])


def announce(cloud: Cloud, repository: str, tag: str, digest: str) -> None:
    """Let ECR say that an image was pushed."""
    cloud.put_event(
        {
            "source": "aws.ecr",
            "detail-type": "ECR Image Action",
            "detail": {
                "result": "SUCCESS",
                "repository-name": repository,
                "image-digest": digest,
                "action-type": "PUSH",
                "image-tag": tag,
            },
        }
    )


def reference(repository: str, tag: str) -> str:
    """Return the image as pods name it."""
    return f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/{repository}:{tag}"


def _digest(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
