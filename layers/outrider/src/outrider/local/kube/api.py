"""The verbs of the API on objects: get, list, create, update, patch, apply, delete.

What a request goes through, in kube-apiserver's order: conversion, defaults, built-in admission,
webhooks, strategy (what a subresource may touch), validation, optimistic commit. Callers inside the
process and the HTTP gateway use the same methods; only the gateway authenticates and authorises.
Refuses to know HTTP.
"""

from __future__ import annotations

import random
import threading
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson

from outrider.local.clock import Clock
from outrider.local.kube import defaults, plugins, schema, strategy, validation
from outrider.local.kube.admission import Request, Transport, Webhooks
from outrider.local.kube.apply import apply
from outrider.local.kube.calls import Call, Deletion, check_preconditions
from outrider.local.kube.conversion import to_served, to_stored
from outrider.local.kube.objects import Key, Obj, User, clone, is_leaving, key_of, stamp
from outrider.local.kube.ownership import (
    Manager,
    Managers,
    after_update,
    field_set,
    parsed,
    rendered,
)
from outrider.local.kube.rbac import Authoriser
from outrider.local.kube.resources import Resource, ResourceTable, custom_rows
from outrider.local.kube.selectors import LabelTest, ObjectTest
from outrider.local.kube.shapes import Shape, Structural, Typed
from outrider.local.kube.status import (
    StatusError,
    already_exists,
    bad_request,
    invalid,
    not_found,
    stale,
)
from outrider.local.kube.store import Change, Entry, StaleWriteError, Store

DEFINITIONS = "customresourcedefinitions.apiextensions.k8s.io"
_SUFFIX_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
_ATTEMPTS = 20


class API:
    """The objects of one cluster and what may be done with them."""

    def __init__(self, clock: Clock, *, seed: int = 0, transport: Transport | None = None) -> None:
        self.clock = clock
        self.store = Store()
        self.table = ResourceTable()
        self.webhooks = Webhooks(self.store, self.table, transport)
        self.authoriser = Authoriser(self.store)
        self.on_pod_delete: Callable[[Obj, str, int, User], None] = lambda *_: None
        self._dice = random.Random(seed)  # noqa: S311 - names and uids, no secrets
        self._dice_lock = threading.Lock()
        self._written: dict[tuple[str, str], dict[Key, tuple[Entry, orjson.Fragment]]] = (
            defaultdict(dict)
        )
        self.store.subscribe(DEFINITIONS, self._serve_definition)
        self.store.add_index("pods", "node", _node_name)

    # Reading

    def resource(self, storage: str) -> Resource:
        """Return the row of *storage*, such as `pods` or `leases.coordination.k8s.io`."""
        return self.table.named(storage)

    def entry(self, resource: Resource, key: Key) -> Entry:
        """Return what is stored at *key*, or refuse."""
        found = self.store.get(resource.storage, key)
        if found is None:
            raise not_found(resource.plural, resource.group, key[1])
        return found

    def show(self, entry: Entry, resource: Resource, *, plain: bool = False) -> Obj:
        """Return *entry* as *resource* serves it, with its managedFields."""
        served = to_served(entry.object, resource)
        if not entry.managers:
            return served
        managed = rendered(entry.managers, plain=plain)
        return {**served, "metadata": {**served["metadata"], "managedFields": managed}}

    def written(self, entry: Entry, resource: Resource) -> orjson.Fragment:
        """Return `show` as JSON, written once for each revision of an object."""
        kind = resource.storage, resource.api_version
        known = self._written[kind]
        key = key_of(entry.object)
        found = known.get(key)
        if found is None or found[0] is not entry:
            found = known[key] = entry, orjson.Fragment(orjson.dumps(self.show(entry, resource)))
            if len(known) > 2 * self.store.count(resource.storage) + 100:
                known.clear()  # most of it is of objects that are gone
        return found[1]

    def select(
        self,
        resource: Resource,
        namespace: str,
        labels: LabelTest | None,
        fields: ObjectTest | None,
        fixed: Mapping[str, str] | None = None,
    ) -> tuple[list[Entry], int]:
        """Return the entries that both tests accept, in key order, and the list's revision.

        What *fields* demands by equality is also in *fixed*, so that not every object need be
        looked at.
        """
        storage = resource.storage
        if fixed and (name := fixed.get("metadata.name")) and not resource.namespaced:
            entries, revision = self.store.entry(storage, ("", name))
        elif fixed and storage == "pods" and (node := fixed.get("spec.nodeName")):
            entries, revision = self.store.entries(storage, namespace, ("node", node))
        else:
            entries, revision = self.store.entries(storage, namespace)
        if labels is not None:
            entries = [one for one in entries if labels(one.object["metadata"].get("labels") or {})]
        if fields is not None:
            entries = [one for one in entries if fields(one.object)]
        return entries, revision

    # Writing

    def create(self, resource: Resource, namespace: str, body: Obj, call: Call) -> Entry:
        """Create *body* and return what is stored."""
        obj = self._new(resource, namespace, body)
        writer = self._writer(resource, call, "Update")
        shape = self.shape(resource)

        def managed(new: Obj) -> Managers:
            return after_update((), writer, None, _owned_part(new, resource, ""), shape)

        return self._insert(resource, obj, call, managed)

    def update(
        self, resource: Resource, key: Key, body: Obj, call: Call, subresource: str = ""
    ) -> Entry:
        """Replace the object at *key*, or the part of it that *subresource* is, by *body*."""
        sent = clone(validation.body_is_object(body))
        self._check_type(resource, sent)
        if sent["metadata"].get("name", key[1]) != key[1]:
            name = sent["metadata"]["name"]
            raise bad_request(
                f"the name of the object ({name}) does not match the name on the URL ({key[1]})"
            )
        return self._change(resource, key, lambda _current: sent, call, subresource)

    def patch(
        self,
        resource: Resource,
        key: Key,
        change: Callable[[Obj], Obj],
        call: Call,
        subresource: str = "",
    ) -> Entry:
        """Replace the object at *key* by what *change* makes of it, again when somebody wrote
        between.
        """

        def patched(current: Obj) -> Obj:
            proposed = clone(change(current))
            if current["metadata"].get("resourceVersion") == proposed["metadata"].get(
                "resourceVersion"
            ):
                proposed["metadata"].pop("resourceVersion", None)
            return proposed

        return self._change(resource, key, patched, call, subresource)

    def apply(
        self,
        resource: Resource,
        key: Key,
        manifest: Obj,
        call: Call,
        subresource: str = "",
        *,
        force: bool = False,
    ) -> tuple[Entry, bool]:
        """Apply *manifest* server-side; return what is stored and whether it is new."""
        validation.body_is_object(manifest)
        self._check_type(resource, manifest)
        if manifest["metadata"].get("managedFields"):
            raise bad_request("metadata.managedFields must be nil")
        shape = self.shape(resource)
        writer = self._writer(resource, call, "Apply", subresource)
        for _ in range(_ATTEMPTS):
            found = self.store.get(resource.storage, key)
            try:
                if found is None:
                    return self._apply_new(resource, key, manifest, call, writer, subresource), True
                live = to_served(found.object, resource)
                merged, managers = apply(live, manifest, shape, found.managers, writer, force=force)
                return self._replace(resource, found, merged, call, subresource, managers), False
            except StaleWriteError:
                continue
        raise stale(resource.plural, resource.group, key[1])

    def delete(
        self, resource: Resource, key: Key, options: Deletion, call: Call
    ) -> tuple[Entry, bool]:
        """Delete the object at *key*; return its state and whether it is gone already."""
        plugins.admit_delete(resource, key[1])
        asked = False
        for _ in range(_ATTEMPTS):
            found = self.entry(resource, key)
            check_preconditions(resource, found.object, options)
            if not asked:
                self._admit(resource, "DELETE", "", key, None, found.object, call)
                asked = True
            try:
                return self._delete_once(resource, found, options, call)
            except StaleWriteError:
                continue
        raise stale(resource.plural, resource.group, key[1])

    def delete_all(
        self, resource: Resource, entries: Iterable[Entry], options: Deletion, call: Call
    ) -> None:
        """Delete every one of *entries*."""
        for one in entries:
            try:
                self.delete(resource, key_of(one.object), options, call)
            except StatusError as refusal:
                if refusal.code != 404:
                    raise

    def write_whole(self, resource: Resource, found: Entry, new: Obj, call: Call) -> Entry | None:
        """Commit *new* over *found* past the fences of subresources; None when somebody wrote
        between.
        """
        new = clone(new)
        new["metadata"].pop("managedFields", None)
        writer = self._writer(resource, call, "Update")
        managers = after_update(found.managers, writer, found.object, new, self.shape(resource))
        if call.dry_run:
            return Entry(new, managers)
        try:
            return self.store.commit(resource.storage, Entry(new, managers), found.revision)
        except StaleWriteError:
            return None

    def shape(self, resource: Resource) -> Shape:
        """Return how the lists and maps of a kind merge."""
        if resource.custom is None:
            return Typed()
        return Structural(resource.custom.schema, root=True)

    def new_uid(self) -> str:
        """Return a fresh uid."""
        with self._dice_lock:
            return str(uuid.UUID(int=self._dice.getrandbits(128), version=4))

    def new_suffix(self, length: int = 5) -> str:
        """Return random letters for a generated name."""
        with self._dice_lock:
            return "".join(self._dice.choices(_SUFFIX_LETTERS, k=length))

    def now(self) -> str:
        """Return the time on the clock as objects carry it."""
        return stamp(self.clock.now())

    # How a write is made

    def _new(self, resource: Resource, namespace: str, body: Obj) -> Obj:
        sent = clone(validation.body_is_object(body))
        self._check_type(resource, sent)
        meta = sent["metadata"]
        if meta.get("resourceVersion"):
            raise bad_request("resourceVersion should not be set on objects to be created")
        if resource.namespaced:
            if meta.setdefault("namespace", namespace) != namespace:
                raise bad_request(
                    "the namespace of the provided object does not match the namespace sent on "
                    "the request"
                )
        else:
            meta.pop("namespace", None)
        if not meta.get("name"):
            prefix = meta.get("generateName")
            if not prefix:
                message = "Required value: name or generateName is required"
                raise invalid(
                    resource.kind,
                    resource.group,
                    "",
                    [("metadata.name", "FieldValueRequired", message)],
                )
            meta["name"] = f"{prefix[:58]}{self.new_suffix()}"
        for name in (
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "managedFields",
            "selfLink",
        ):
            meta.pop(name, None)
        meta["uid"] = self.new_uid()
        meta["creationTimestamp"] = self.now()
        if resource.generation or resource.custom:
            meta["generation"] = 1
        return to_stored(sent, resource, self.resource(resource.storage))

    def _insert(
        self, resource: Resource, obj: Obj, call: Call, managed: Callable[[Obj], Managers]
    ) -> Entry:
        self._complete(resource, obj, call)
        defaults.first_status(obj, resource)
        plugins.admit_create(self.store, resource, obj)
        obj = self._admit(resource, "CREATE", "", key_of(obj), obj, None, call)
        self._validate(resource, obj, None)
        self._establish(resource, obj)
        entry = Entry(obj, managed(obj))
        if call.dry_run:
            if self.store.get(resource.storage, key_of(obj)) is not None:
                raise already_exists(resource.plural, resource.group, obj["metadata"]["name"])
            return entry
        try:
            return self.store.commit(resource.storage, entry, None)
        except StaleWriteError:
            raise already_exists(resource.plural, resource.group, obj["metadata"]["name"]) from None

    def _apply_new(
        self,
        resource: Resource,
        key: Key,
        manifest: Obj,
        call: Call,
        writer: Manager,
        subresource: str,
    ) -> Entry:
        if subresource:
            raise not_found(resource.plural, resource.group, key[1])
        body = {**manifest, "metadata": {**manifest["metadata"], "name": key[1]}}
        obj = self._new(resource, key[0], body)
        _, managers = apply({}, manifest, self.shape(resource), (), writer, force=False)
        try:
            return self._insert(resource, obj, call, lambda _new: managers)
        except StatusError as refusal:
            if refusal.reason == "AlreadyExists":
                raise StaleWriteError from refusal
            raise

    def _change(
        self,
        resource: Resource,
        key: Key,
        change: Callable[[Obj], Obj],
        call: Call,
        subresource: str,
    ) -> Entry:
        for _ in range(_ATTEMPTS):
            found = self.entry(resource, key)
            proposed = change(self.show(found, resource, plain=True))
            wanted = proposed["metadata"].get("resourceVersion")
            if wanted and wanted != found.object["metadata"]["resourceVersion"]:
                raise stale(resource.plural, resource.group, key[1])
            try:
                return self._replace(resource, found, proposed, call, subresource, None)
            except StaleWriteError:
                if wanted:
                    raise stale(resource.plural, resource.group, key[1]) from None
        raise stale(resource.plural, resource.group, key[1])

    def _replace(
        self,
        resource: Resource,
        found: Entry,
        proposed: Obj,
        call: Call,
        subresource: str,
        managers: Managers | None,
    ) -> Entry:
        """Write *proposed* over *found*; *managers* are known only after an apply."""
        old = found.object
        sent_managers = proposed["metadata"].get("managedFields")
        new = to_stored(proposed, resource, self.resource(resource.storage))
        new = strategy.isolated(resource, subresource, old, new)
        strategy.keep_identity(resource, old, new)
        self._complete(resource, new, call)
        plugins.admit_update(resource, old, new)
        strategy.count_generation(resource, old, new)
        key = key_of(old)
        if managers is None:
            before = found.managers
            if sent_managers is not None and sent_managers != rendered(before, plain=True):
                before = parsed(sent_managers)
            writer = self._writer(resource, call, "Update", subresource)
            shape = self.shape(resource)
            was, now = (
                _owned_part(old, resource, subresource),
                _owned_part(new, resource, subresource),
            )
            managers = after_update(before, writer, was, now, shape)
        if new == old and managers == found.managers:
            return found
        new = self._admit(resource, "UPDATE", subresource, key, new, old, call)
        self._validate(resource, new, None if subresource else old, before=old)
        self._establish(resource, new)
        if call.dry_run:
            return Entry(new, managers)
        if strategy.may_go(resource, new):
            return self.store.remove(resource.storage, key, found.revision)
        return self.store.commit(resource.storage, Entry(new, managers), found.revision)

    def _delete_once(
        self, resource: Resource, found: Entry, options: Deletion, call: Call
    ) -> tuple[Entry, bool]:
        old = found.object
        key = key_of(old)
        grace = strategy.grace_of(resource, old, options.grace)
        finalizers = strategy.finalizers_for(resource, old, options.propagation)
        waits = bool(finalizers) or grace > 0 or strategy.is_held(resource, old)
        first = not is_leaving(old)
        if call.dry_run:
            return found, not waits
        if not waits:
            gone = self.store.remove(resource.storage, key, found.revision)
            self._note_pod_delete(resource, old, options, grace, call, first=first)
            return gone, True
        new = strategy.marked(resource, old, finalizers, grace, self.clock.now())
        if new is None:
            return found, False
        entry = self.store.commit(resource.storage, Entry(new, found.managers), found.revision)
        self._note_pod_delete(resource, old, options, grace, call, first=first)
        return entry, False

    def _note_pod_delete(
        self,
        resource: Resource,
        pod: Obj,
        options: Deletion,
        grace: int,
        call: Call,
        *,
        first: bool,
    ) -> None:
        if resource.storage == "pods" and first:
            self.on_pod_delete(pod, options.how, grace, call.user)

    def _complete(self, resource: Resource, obj: Obj, call: Call) -> None:
        """Fill defaults and, for custom kinds, drop what the schema does not know; in place."""
        if resource.custom is None:
            defaults.fill(obj, resource.storage)
            return
        unknown = list(schema.prune(obj, resource.custom.schema, root=True))
        if unknown and call.strict:
            raise bad_request(schema.unknown_fields_message(unknown))
        schema.fill_defaults(obj, resource.custom.schema)

    def _validate(
        self, resource: Resource, obj: Obj, old: Obj | None, *, before: Obj | None = None
    ) -> None:
        causes = list(validation.problems(obj, resource.storage, old, before))
        if resource.custom is not None:
            causes += schema.validate(obj, resource.custom.schema, "", before)
        if causes:
            raise invalid(resource.kind, resource.group, obj["metadata"]["name"], causes)

    def _admit(
        self,
        resource: Resource,
        operation: str,
        subresource: str,
        key: Key,
        obj: Obj | None,
        old: Obj | None,
        call: Call,
    ) -> Any:
        request = Request(
            operation=operation,
            resource=resource,
            subresource=subresource,
            namespace=key[0],
            name=key[1],
            user=call.user,
            object=None if obj is None else to_served(obj, resource),
            old=None if old is None else to_served(old, resource),
            dry_run=call.dry_run,
            options=call.options or {},
        )
        admitted = self.webhooks.admit(request)
        if admitted is None or admitted is request.object:
            return obj
        return to_stored(admitted, resource, self.resource(resource.storage))

    def _writer(
        self, resource: Resource, call: Call, operation: str, subresource: str = ""
    ) -> Manager:
        return Manager(
            call.manager, operation, resource.api_version, subresource, self.now(), field_set(())
        )

    def _check_type(self, resource: Resource, body: Obj) -> None:
        kind, version = (
            body.setdefault("kind", resource.kind),
            body.setdefault("apiVersion", resource.api_version),
        )
        if kind != resource.kind:
            raise bad_request(f"{kind} in version {version} cannot be handled as a {resource.kind}")
        if version != resource.api_version:
            raise bad_request(
                f"the API version in the data ({version}) does not match the expected API version "
                f"({resource.api_version})"
            )

    def _establish(self, resource: Resource, obj: Obj) -> None:
        """Accept a CustomResourceDefinition at once; nothing here is asynchronous about it."""
        if resource.storage != DEFINITIONS:
            return
        wanted = f"{obj['spec']['names'].get('plural')}.{obj['spec'].get('group')}"
        if obj["metadata"]["name"] != wanted:
            name = obj["metadata"]["name"]
            message = f'Invalid value: "{name}": must be spec.names.plural+"."+spec.group'
            cause = ("metadata.name", "FieldValueInvalid", message)
            raise invalid(resource.kind, resource.group, obj["metadata"]["name"], [cause])
        status = obj.setdefault("status", {})
        if status.get("acceptedNames") != obj["spec"]["names"]:
            now = self.now()
            status["acceptedNames"] = obj["spec"]["names"]
            status["storedVersions"] = [
                one["name"] for one in obj["spec"]["versions"] if one.get("storage")
            ]
            status["conditions"] = [
                {
                    "type": kind,
                    "status": "True",
                    "reason": reason,
                    "message": message,
                    "lastTransitionTime": now,
                }
                for kind, reason, message in (
                    ("NamesAccepted", "NoConflicts", "no conflicts found"),
                    ("Established", "InitialNamesAccepted", "the initial names have been accepted"),
                )
            ]

    def _serve_definition(self, change: Change) -> None:
        definition = change.entry.object
        spec = definition["spec"]
        self.table.remove_custom(f"{spec['names']['plural']}.{spec['group']}")
        if change.type != "DELETED":
            self.table.add(*custom_rows(definition))


def _node_name(pod: Obj) -> tuple[str, ...]:
    name = pod["spec"].get("nodeName")
    return (name,) if name else ()


def _owned_part(obj: Obj, resource: Resource, subresource: str) -> Obj:
    """Return what of *obj* a write through *subresource* can come to own, as it is served."""
    served = to_served(obj, resource)
    if subresource == "status":
        return {name: served[name] for name in ("metadata", "status") if name in served}
    if "status" in resource.subresources:
        return {name: value for name, value in served.items() if name != "status"}
    return served
