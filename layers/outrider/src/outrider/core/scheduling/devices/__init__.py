"""Dynamic resource allocation: device claims as resources that the planner counts.

`allot` reads what pods claim (`claims`), what devices nodes and types have (`supply`), which of
them suit (`matching`, `cel`), and turns both into resources (`hall`). What it cannot judge exactly
makes the pod unschedulable with a reason. See docs/adr/0008.
"""

from outrider.core.scheduling.devices.allotment import Allotment, allot

__all__ = ["Allotment", "allot"]
