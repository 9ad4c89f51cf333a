"""What a cold start costs in CPU: each handler imported from the built layers, as Lambda would.

`make layer-host` builds the layers for this machine's Python (same pruning, same bytecode); nothing
of the development environment is on the path.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
LAYERS = [ROOT / "build/layer-host" / name / "python" for name in ("outrider", "solver")]
RUNS = 5
SECONDS = {"webhook": 0.5, "provision": 1.2, "interrupt": 1.2}

SCRIPT = """
import json, resource, sys, time
sys.path[:0] = json.loads(sys.argv[1])
began = time.process_time()
import app
seconds = time.process_time() - began
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"seconds": seconds, "peak_kib": peak, "modules": sorted(sys.modules)}))
"""

pytestmark = [
    pytest.mark.bench,
    pytest.mark.skipif(
        not all(layer.is_dir() for layer in LAYERS),
        reason="the layers are made by: make layer-host",
    ),
]


def cold(function: str) -> dict[str, Any]:
    """Import the handler of *function* in a fresh interpreter and return what it took."""
    path = [str(ROOT / "functions" / function), *map(str, LAYERS)]
    environment = {"OUTRIDER_CLUSTER": "bench", "AWS_REGION": "us-east-1"}
    told = subprocess.run(
        [sys.executable, "-S", "-E", "-c", SCRIPT, json.dumps(path)],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
        timeout=60,
    )
    measured: dict[str, Any] = json.loads(told.stdout)
    return measured


@pytest.mark.parametrize("function", sorted(SECONDS))
def test_a_handler_is_imported_quickly(
    function: str, record_property: pytest.RecordProperty
) -> None:
    """The best of five cold imports stays within its seconds of CPU."""
    runs = [cold(function) for _ in range(RUNS)]
    best = min(run["seconds"] for run in runs)
    record_property("seconds", best)
    record_property("peak_mib", max(run["peak_kib"] for run in runs) // 1024)
    assert best < SECONDS[function]


def test_the_webhook_imports_none_of_the_heavy_ones() -> None:
    """Neither pydantic nor boto3 nor kubernetes nor numpy stands between a hint and its answer."""
    loaded = set(cold("webhook")["modules"])
    heavy = {"pydantic", "boto3", "botocore.session", "kubernetes", "numpy", "highspy"}
    assert not loaded & heavy  # Powertools looks at botocore's version, which is half a millisecond
