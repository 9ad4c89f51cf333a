"""One request for a resource: its verb, whether it is allowed, what is done, how it is shown.

Reads bodies in JSON, YAML and described protobuf, and answers in JSON: whole objects, Tables for
kubectl, or metadata alone. A list or a watch holds references to stored objects and copies none.
Refuses to know sockets and tokens.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Any

import orjson
import yaml

from outrider.local.kube import patch, protobuf, subresources, tables
from outrider.local.kube.api import API
from outrider.local.kube.calls import Call, Deletion, deletion
from outrider.local.kube.eviction import evict
from outrider.local.kube.messages import JSON, Answer, HttpRequest, Query, Route
from outrider.local.kube.objects import Key, Obj, User, key_of
from outrider.local.kube.rbac import Attributes
from outrider.local.kube.selectors import ObjectTest, parse_fields, parse_labels
from outrider.local.kube.shapes import Typed
from outrider.local.kube.status import (
    StatusError,
    bad_request,
    expired,
    forbidden,
    method_not_allowed,
    not_acceptable,
    unsupported_media_type,
)
from outrider.local.kube.store import Entry
from outrider.local.kube.watching import Selection, changes_as_events


class Exchange:
    """One request for a resource, from its verb to its representation."""

    def __init__(
        self, api: API, request: HttpRequest, route: Route, query: Query, user: User
    ) -> None:
        self.api = api
        self.request = request
        self.route = route
        self.resource = route.resource
        self.query = query
        self.user = user

    def answer(self) -> Answer:
        """Authorise and carry out."""
        verb = self._verb()
        self._authorise(verb)
        if verb not in self.resource.verbs:
            raise method_not_allowed(
                "the server does not allow this method on the requested resource"
            )
        carry_out = {
            "get": self._get,
            "list": self._list,
            "watch": self._watch,
            "create": self._create,
            "update": self._update,
            "patch": self._patch,
            "delete": self._delete,
            "deletecollection": self._delete_collection,
        }
        return carry_out[verb]()

    def _verb(self) -> str:
        named = bool(self.route.name)
        match self.request.method:
            case "GET" | "HEAD":
                if self.query.flag("watch"):
                    return "watch"
                return "get" if named else "list"
            case "POST":
                return "create"
            case "PUT" if named:
                return "update"
            case "PATCH" if named:
                return "patch"
            case "DELETE":
                return "delete" if named else "deletecollection"
            case _:
                raise method_not_allowed(
                    "the server does not allow this method on the requested resource"
                )

    def _authorise(self, verb: str) -> None:
        route = self.route
        wanted = Attributes(
            verb=verb,
            group=self.resource.group,
            resource=self.resource.plural,
            subresource=route.subresource,
            namespace=route.namespace,
            name=route.name or self._selected_name(verb),
        )
        if not self.api.authoriser.allows(self.user, wanted):
            plural, group = self.resource.plural, self.resource.group
            raise forbidden(plural, group, route.name, wanted.described(self.user))

    def _selected_name(self, verb: str) -> str:
        """Return the name that a list selects by field: RBAC takes it for the object's, as
        Kubernetes does.
        """
        if verb not in {"list", "watch", "deletecollection"}:
            return ""
        return parse_fields(self.query.text("fieldSelector"), self.resource.storage)[1].get(
            "metadata.name", ""
        )

    # Reading

    def _get(self) -> Answer:
        entry = self.api.entry(self.resource, self.route.key)
        shown = self.api.show(entry, self.resource)
        if self.route.subresource == "scale":
            shown = subresources.read_scale(self.resource, entry.object)
        return self._object(200, shown)

    def _selection(self) -> Selection:
        fields, fixed = parse_fields(self.query.text("fieldSelector"), self.resource.storage)
        labels = parse_labels(self.query.text("labelSelector"))
        if self.route.name:
            fixed = {**fixed, "metadata.name": self.route.name}
            fields = _both(fields, _is_named(self.route.name))
        return Selection(self.resource, self.route.namespace, labels, fields, fixed)

    def _list(self) -> Answer:
        chosen = self._selection()
        limit = self.query.number("limit") or 0
        token = self.query.text("continue")
        entries, revision = self._entries(chosen)
        if token:
            revision, after = _read_token(token)
            entries = [one for one in entries if key_of(one.object) > after]
        meta: Obj = {"resourceVersion": str(revision)}
        if limit and len(entries) > limit:
            meta["remainingItemCount"] = len(entries) - limit
            entries = entries[:limit]
            meta["continue"] = _write_token(revision, key_of(entries[-1].object))
            if chosen.labels or chosen.fields:
                del meta["remainingItemCount"]
        if self._form() == "":
            return self._whole([self.api.written(one, self.resource) for one in entries], meta)
        shown = [self.api.show(one, self.resource) for one in entries]
        return self._objects(shown, meta)

    def _entries(self, chosen: Selection) -> tuple[list[Entry], int]:
        wanted = self.query.number("resourceVersion")
        if wanted is not None and wanted > self.api.store.revision:
            raise StatusError(
                504, "Timeout", f"Too large resource version: {wanted}", retry_after=1
            )
        return self.api.select(
            self.resource, self.route.namespace, chosen.labels, chosen.fields, chosen.fixed
        )

    def _objects(self, shown: list[Obj], meta: Obj) -> Answer:
        form = self._form()
        if form == "Table":
            include = self.query.text("includeObject") or "Metadata"
            body = tables.table(shown, self.resource, self.api.clock.now(), include, meta)
        elif form == "PartialObjectMetadataList":
            items = [tables.partial(one) for one in shown]
            body = {"kind": form, "apiVersion": "meta.k8s.io/v1", "metadata": meta, "items": items}
        else:
            return self._whole(shown, meta)
        return Answer(body=orjson.dumps(body))

    def _whole(self, items: Sequence[Obj | orjson.Fragment], meta: Obj) -> Answer:
        """Return the list of *items* as they are, written already or not."""
        body = {
            "kind": self.resource.list_kind,
            "apiVersion": self.resource.api_version,
            "metadata": meta,
            "items": items,
        }
        return Answer(body=orjson.dumps(body))

    def _form(self) -> str:
        """Return the first representation that the caller accepts and that is made here."""
        for media in self.request.headers.get("accept", JSON).split(","):
            kind, *parameters = [part.strip() for part in media.split(";")]
            wanted = dict(part.partition("=")[::2] for part in parameters)
            if kind in {JSON, "*/*", "application/*", "application/yaml"}:
                return wanted.get("as", "")
        raise not_acceptable(
            "only the following media types are accepted: application/json, "
            "application/json;as=Table"
        )

    def _object(self, code: int, shown: Obj) -> Answer:
        form = self._form()
        if form == "Table":
            include = self.query.text("includeObject") or "Metadata"
            meta = {"resourceVersion": shown["metadata"].get("resourceVersion", "")}
            shown = tables.table([shown], self.resource, self.api.clock.now(), include, meta)
        elif form.startswith("PartialObjectMetadata"):
            shown = tables.partial(shown)
        return Answer(code, orjson.dumps(shown))

    def _watch(self) -> Answer:
        chosen = self._selection()
        since = self.query.text("resourceVersion")
        try:
            start = int(since) if since else 0
        except ValueError:
            raise bad_request(
                f'Invalid value: "{since}": strconv.ParseUint: invalid syntax'
            ) from None
        if start > self.api.store.revision:
            raise expired(
                f"Too large resource version: {start}, current: {self.api.store.revision}"
            )
        stream = changes_as_events(
            self.api,
            chosen,
            since=start or None,
            initial=self.query.flag("sendInitialEvents") or not start,
            mark_initial=self.query.flag("sendInitialEvents"),
            bookmarks=self.query.flag("allowWatchBookmarks"),
            seconds=self.query.number("timeoutSeconds"),
            render=self._watched(),
        )
        return Answer(stream=stream)

    def _watched(self) -> Callable[[Obj], Obj]:
        form = self._form()
        if form == "Table":
            include = self.query.text("includeObject") or "Metadata"

            def row(obj: Obj) -> Obj:
                meta = {"resourceVersion": obj["metadata"].get("resourceVersion", "")}
                return tables.table([obj], self.resource, self.api.clock.now(), include, meta)

            return row
        return tables.partial if form.startswith("PartialObjectMetadata") else lambda obj: obj

    # Writing

    def _call(self) -> Call:
        dry = self.query.text("dryRun")
        if dry not in {"", "All"}:
            raise bad_request(f'dryRun: Unsupported value: "{dry}": supported values: "All"')
        agent = self.request.headers.get("user-agent", "unknown").split("/")[0]
        return Call(
            user=self.user,
            manager=self.query.text("fieldManager") or agent or "unknown",
            dry_run=bool(dry),
            strict=self.query.text("fieldValidation") == "Strict",
        )

    def _body(self) -> Any:
        if not self.request.body:
            raise bad_request("the body of the request is empty")
        kind = self.request.headers.get("content-type", JSON).split(";")[0].strip().lower()
        if kind == "application/vnd.kubernetes.protobuf":
            return protobuf.decode(self.request.body)
        try:
            if "yaml" in kind:
                return _read_yaml(self.request.body)
            if kind.endswith("json") or kind in {"", "*/*", "application/x-www-form-urlencoded"}:
                return orjson.loads(self.request.body)
        except (orjson.JSONDecodeError, yaml.YAMLError) as cause:
            raise bad_request(
                f"the body of the request was in an unreadable format: {cause}"
            ) from cause
        raise unsupported_media_type(
            "the body of the request was in an unknown format - accepted media types include: "
            "application/json, application/yaml"
        )

    def _create(self) -> Answer:
        route, body, call = self.route, self._body(), self._call()
        if not isinstance(body, dict):
            raise bad_request("the object provided is unrecognized (must be of type Object)")
        if route.subresource == "binding":
            return self._plain(201, subresources.bind(self.api, route.key, body, call))
        if route.subresource == "eviction":
            return self._plain(201, evict(self.api, route.key, body, call))
        if self.resource.verbs == ("create",):
            return self._plain(201, subresources.review(self.api, self.resource, body, self.user))
        if route.name:
            raise method_not_allowed("POST on a named resource is not supported")
        namespace = route.namespace
        if self.resource.namespaced and not namespace:
            raise bad_request("an empty namespace may not be set during creation")
        entry = self.api.create(self.resource, namespace, body, call)
        return self._object(201, self.api.show(entry, self.resource))

    def _update(self) -> Answer:
        route, body, call = self.route, self._body(), self._call()
        if route.subresource == "scale":
            return self._scale(lambda _current: body, call)
        entry = self.api.update(self.resource, route.key, body, call, route.subresource)
        return self._object(200, self.api.show(entry, self.resource))

    def _patch(self) -> Answer:
        route, body, call = self.route, self._body(), self._call()
        kind = self.request.headers.get("content-type", "").split(";")[0].strip().lower()
        if "apply-patch" in kind:
            return self._apply(body, call)
        change = self._changer(kind, body)
        if route.subresource == "scale":
            return self._scale(change, call)
        entry = self.api.patch(self.resource, route.key, change, call, route.subresource)
        return self._object(200, self.api.show(entry, self.resource))

    def _apply(self, body: Any, call: Call) -> Answer:
        if not self.query.text("fieldManager"):
            raise bad_request(
                "PatchOptions.meta.k8s.io is invalid: fieldManager: Required value: "
                "is required for apply patch"
            )
        force = self.query.flag("force")
        route = self.route
        entry, created = self.api.apply(
            self.resource, route.key, body, call, route.subresource, force=force
        )
        return self._object(201 if created else 200, self.api.show(entry, self.resource))

    def _changer(self, kind: str, body: Any) -> Callable[[Obj], Obj]:
        match kind:
            case "application/json-patch+json":
                return lambda current: patch.json_patch(current, body)
            case "application/merge-patch+json":
                return lambda current: _as_object(patch.merge(current, body))
            case "application/strategic-merge-patch+json" if self.resource.custom is None:
                return lambda current: _as_object(patch.strategic(current, body, Typed()))
            case _:
                raise unsupported_media_type(
                    "the body of the request was in an unknown format - accepted media types "
                    "include: application/json-patch+json, application/merge-patch+json, "
                    "application/apply-patch+yaml"
                )

    def _scale(self, change: Callable[[Obj], Obj], call: Call) -> Answer:
        def scaled(current: Obj) -> Obj:
            wanted = change(subresources.read_scale(self.resource, current))
            return subresources.with_scale(self.resource, current, wanted)

        entry = self.api.patch(self.resource, self.route.key, scaled, call)
        return self._plain(200, subresources.read_scale(self.resource, entry.object))

    def _deletion(self) -> Deletion:
        options: Obj = self._body() if self.request.body else {}
        if not isinstance(options, dict):
            raise bad_request("DeleteOptions must be an object")
        for name in ("gracePeriodSeconds", "propagationPolicy"):
            if self.query.text(name):
                options = {**options, name: self.query.text(name)}
        return deletion(options)

    def _delete(self) -> Answer:
        options = self._deletion()
        call = self._call()
        entry, gone = self.api.delete(self.resource, self.route.key, options, call)
        if not gone or self.resource.storage == "pods":
            return self._plain(200, self.api.show(entry, self.resource))
        details = {
            "name": self.route.name,
            "kind": self.resource.plural,
            "uid": entry.object["metadata"]["uid"],
        }
        if self.resource.group:
            details["group"] = self.resource.group
        success = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Success",
            "details": details,
        }
        return self._plain(200, success)

    def _delete_collection(self) -> Answer:
        chosen = self._selection()
        options, call = self._deletion(), self._call()
        entries, revision = self._entries(chosen)
        self.api.delete_all(self.resource, entries, options, call)
        shown = [self.api.show(one, self.resource) for one in entries]
        return self._objects(shown, {"resourceVersion": str(revision)})

    def _plain(self, code: int, body: Obj) -> Answer:
        return Answer(code, orjson.dumps(body))


def _both(one: ObjectTest | None, other: ObjectTest) -> ObjectTest:
    return other if one is None else lambda obj: one(obj) and other(obj)


def _is_named(name: str) -> ObjectTest:
    return lambda obj: bool(obj["metadata"]["name"] == name)


def _as_object(value: Any) -> Obj:
    if not isinstance(value, dict):
        raise bad_request("the patch does not yield an object")
    return value


def _read_yaml(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        return yaml.load(body, Loader=loader)  # noqa: S506 - a safe loader, in C where there is one


def _write_token(revision: int, after: Key) -> str:
    return base64.urlsafe_b64encode(
        orjson.dumps({"v": "meta.k8s.io/v1", "rv": revision, "start": list(after)})
    ).decode()


def _read_token(token: str) -> tuple[int, Key]:
    try:
        read = orjson.loads(base64.urlsafe_b64decode(token))
        namespace, name = read["start"]
        return int(read["rv"]), (namespace, name)
    except (ValueError, KeyError, TypeError) as cause:
        raise bad_request("continue key is not valid") from cause
