"""The embedded Kubernetes API: a cluster in one process, for `outrider local`, the demo and the
tests.

    server        KubeAPI: everything below, wired
    listener      sockets, TLS, HTTP/1.1
    gateway       the protocol: exchange, watching, discovery, tables, protobuf
    api           the verbs, with strategy, defaults, validation, schema, plugins
    patch, apply, ownership, shapes                   the four patches and managedFields
    admission, cel, rbac, eviction, subresources      webhooks, expressions, permissions, PDBs
    store, resources, selectors, conversion           what is kept, and what is served
    scheduler/, controllers/, kubelets/               who acts on it; client, workqueue, chronicle

Typed by a table of kinds, not by generated code; faithful where a client, a controller or a
provisioner can tell, and said so where not. One process-wide lock guards the store; nothing
that can block is called under it.
"""

from __future__ import annotations

from outrider.local.kube.kubelets import Faults, Gpu, InstanceFacts, Kubelets, Timings
from outrider.local.kube.objects import User
from outrider.local.kube.server import KubeAPI

__all__ = ["Faults", "Gpu", "InstanceFacts", "KubeAPI", "Kubelets", "Timings", "User"]
