"""Write docs/compatibility.md from the parity tests: `python tools/compatibility.py [--check]`.

Every test in tests/parity is one behaviour of Karpenter's; its docstring begins with the row's
number and says what holds here. "better than Karpenter" in it marks where we do more. The order
is the rows'. With --check nothing is written and the exit status says whether the file is
current.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "compatibility.md"
_ROW = re.compile(r"(?P<rows>[0-9]+(?:, [0-9]+)*): (?P<text>.+)", re.DOTALL)
_BETTER = "better than Karpenter, "

HEAD = """# Compatibility with Karpenter

Written by `python tools/compatibility.py` from tests/parity; do not edit. A row is a behaviour of
Karpenter v1.14 and the test that holds us to it. *Same* means that outrider does what Karpenter
does, *better* that it does more, and how.

"""

TAIL = """## Read, and said differently

- Required node affinity terms are alternatives from the start; Karpenter tries them one by one.
- Pods of higher priority are planned first; Karpenter's queue looks at size only.
- Preferences give way only when a whole round has placed nothing, so that a wish for a pod that is
  planned later in the same batch is kept.
- Types whose GPU is a share of one (`GpuPartitionSize` below 1) serve a GPU pod only where a
  requirement names the type, its family, its GPU memory or `outrider.dev/gpu-fraction`.
- CRDs: what Karpenter's definitions refuse is refused, with their messages; requirements,
  consolidateAfter and a NodeOverlay's requirements may be left out, and a budget's `nodes` may be a
  number. `kubelet.maxPods` is a number: expressions (gate NodeClassCEL) are refused.

## Device claims (dynamic resource allocation)

Claims of resource.k8s.io/v1 (and of v1beta1's spelling) are planned without a gate; Karpenter leaves
such pods out by default. Nodes need the driver's DaemonSet; keep nodes with a device plugin and
nodes with a driver in NodePools of their own, and let pods with claims select theirs. A class with
`outrider.dev/gpu-sharing` says that the plugin has the GPUs: claims find none there.

| on a node | devices |
|---|---|
| that exists | its complete ResourceSlices of the newest generation, less what allocated claims hold |
| that joins, or waits for pods with claims it was launched for | of drivers without slices yet: what its type publishes |
| to be launched, NVIDIA GPU | `gpu.nvidia.com`: `type`, `productName`, `brand`, `architecture`, `cudaComputeCapability`, capacity `memory`; of a model that is not known, `type` |
| to be launched, Inferentia2 or Trainium | `neuron.aws.com`: `instanceType` |
| to be launched, `devices` in the catalogue | what it says |

An entry of the catalogue may carry `devices`, an addition to the documented shape; a `version` is
compared as such, and `unknown` names what the device has but nobody can tell before it runs:

```json
"devices": [{"driver": "gpu.example.com", "count": 4, "unknown": ["uuid"],
             "attributes": {"model": {"string": "a"}, "firmware": {"version": "1.2.3"}},
             "capacity": {"memory": {"value": "40Gi"}}}]
```

A share of a GPU (g6f, gr6f) serves a claim whose selectors name `memory`, `productName` or `brand`,
or whose pod or NodePool asks for it as above. Judged: exact counts and all devices, selectors of
class and request, matchAttribute on what is known, alternatives (`firstAvailable`), admin access,
taints of devices, claims shared by pods or allocated already, extended resources that only a
DeviceClass serves. Everything else leaves the pod out with code DynamicResources and says what it
was (docs/adr/0008 lists it).

## Shared GPUs: time-slicing, MPS and MIG

What NVIDIA's device plugin makes of a node's GPUs is configured in the cluster (its ConfigMap, the
labels `nvidia.com/device-plugin.config` and `nvidia.com/mig.config` in the NodePool's template);
EC2 cannot know it. Karpenter plans with whole GPUs. Here the EC2NodeClass says it in one
annotation, `outrider.dev/gpu-sharing`, and plans, limits and NodeClaims count as the plugin will:

| annotation | a node with one H100 advertises |
|---|---|
| none | `nvidia.com/gpu: 1` |
| `time-slicing=4` or `mps=4` | `nvidia.com/gpu: 4` |
| `time-slicing=4,renamed` | `nvidia.com/gpu.shared: 4` (the plugin's `renameByDefault`) |
| `mig=1g.10gb` (single) | `nvidia.com/gpu: 7` |
| `mig=1g.10gb,time-slicing=2` | `nvidia.com/gpu: 14` |
| `mig=1g.10gb*4+3g.40gb*1` (mixed) | `nvidia.com/mig-1g.10gb: 4`, `nvidia.com/mig-3g.40gb: 1` |

How often a profile fits is NVIDIA's table for A100, H100, H200, B200, B300 and RTX PRO 6000. A GPU
without the profile counts as nothing, since its node would not come up as planned. Words that make
no sense are bad input that names the class. A catalogue that states `capacity` itself is multiplied
too; to be split with MIG its types carry the labels `karpenter.k8s.aws/instance-gpu-name` and
`-gpu-memory`. The annotation is not part of the drift hash: change it together with the class, or
let nodes expire. For anything else (other vendors' shares, dongles) a NodeOverlay's `capacity` adds
devices to a type.
"""


def page() -> str:
    """Return the page."""
    return HEAD + "".join(_section(path) for path in sorted(_files())) + TAIL


def _files() -> list[Path]:
    return list((ROOT / "tests" / "parity").glob("test_*.py"))


def _section(path: Path) -> str:
    module = ast.parse(path.read_text())
    title = (ast.get_docstring(module) or "").partition("(")[0].removeprefix("Parity ").strip()
    rows = sorted(row for node in ast.walk(module) for row in _rows(node))
    if not rows:
        return ""
    lines = [
        f"| {number} | {text} | {verdict} | `{test}` |" for number, text, verdict, test in rows
    ]
    head = f"## {title}\n\n| row | behaviour | | test |\n|---|---|---|---|\n"
    return head + "\n".join(lines) + "\n\n"


def _rows(node: ast.AST) -> list[tuple[int, str, str, str]]:
    if not isinstance(node, ast.FunctionDef) or not node.name.startswith("test_"):
        return []
    match = _ROW.fullmatch(" ".join((ast.get_docstring(node) or "").split()))
    if match is None:
        return []
    text = match["text"]
    verdict = "better" if text.startswith(_BETTER) else "same"
    shown = text.removeprefix(_BETTER).rstrip(".")
    return [(int(row), shown, verdict, node.name) for row in match["rows"].split(", ")]


def main() -> int:
    """Write the page, or check it."""
    text = page()
    if "--check" in sys.argv[1:]:
        return int(not TARGET.exists() or TARGET.read_text() != text)
    TARGET.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
