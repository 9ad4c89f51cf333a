"""The AWS libraries' own data, read once and fast for everybody in this process.

Eight functions with a session each would read the same service models eight times, with a decoder
that is slow on purpose of order (dictionaries keep theirs); moto reads the instance type offerings
of all regions to serve one. Seconds of start and a hundred megabytes go that way. What is read
stays what it is: values that nobody changes.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import botocore.loaders
import botocore.session
import orjson

from outrider.local.region import REGION

_OFFERINGS = "ec2/resources/instance_type_offerings/"


def install() -> Callable[[], None]:
    """Share what is read from now on; return what undoes it."""
    _one_region()
    loader = botocore.loaders.JSONFileLoader
    original_file, original_loader = loader._load_file, botocore.session.create_loader
    shared: dict[str, Any] = {}

    def load_file(_self: Any, full_path: str, _open: Any) -> Mapping[str, Any] | None:
        path = Path(full_path)
        if not path.is_file():
            return None
        raw = path.read_bytes()
        read: Mapping[str, Any] = orjson.loads(
            gzip.decompress(raw) if path.suffix == ".gz" else raw
        )
        return read

    def create_loader(search_path_string: str | None = None) -> Any:
        key = search_path_string or ""
        if key not in shared:
            shared[key] = original_loader(search_path_string)
        return shared[key]

    loader._load_file = load_file
    botocore.session.create_loader = create_loader

    def undo() -> None:
        loader._load_file = original_file
        botocore.session.create_loader = original_loader

    return undo


def _one_region() -> None:
    """Let moto read the offerings of our region only; for good, as moto reads them once."""
    from moto.utilities import utils

    original = utils.load_resource
    if getattr(original, "outrider", False):
        return

    def load_resource(resource: str) -> Any:
        if _OFFERINGS in resource and not Path(resource).name.startswith(f"{REGION}."):
            return []
        return original(resource)

    load_resource.__dict__["outrider"] = True
    utils.load_resource = load_resource
