"""Every error that outrider raises, as one tree.

    OutriderError
      InvalidManifest      not what its kind says; names the object and the field
      CloudError           AWS said no
        CapacityError      no capacity, address or quota for one offering, subnet or account
        Throttled          slow down and try again, with jitter
        NotFound           the thing named does not exist (any more)
        Denied             a permission or a credential is missing
        BuildFailed        a seed's build cannot go on, however often it is asked
      ClusterError         the Kubernetes API said no
        Conflict           409: somebody else wrote first
        Gone               404 or 410: the object, or the list's place, is no more
        Blocked            429 on an eviction: a PodDisruptionBudget holds the pod
        Unreachable        no answer, or 5xx, after bounded retries
      LedgerError          the ledger refused
        NotHolder          the lease is somebody else's now: stop at once
        AlreadyDone        the conditional write says that this step was taken before
      StateTooNew          a release after the next one wrote it: this one could misread it

A pod that finds no place is a value (`Rejection`), not an exception.
"""

from __future__ import annotations

from collections.abc import Mapping


class OutriderError(Exception):
    """Something in the world went wrong; the message says what and where."""


class InvalidManifest(OutriderError):
    """A manifest is not what its kind says.

    *where* names the source (a file, or "" for the cluster), *thing* the object as
    `Kind namespace/name`, *path* the field, *problem* what is wrong with it; *about* is how an
    Event refers to an object of the cluster (apiVersion, kind, name, namespace, uid).
    """

    def __init__(
        self,
        problem: str,
        *,
        path: str = "",
        thing: str = "",
        where: str = "",
        about: Mapping[str, str] | None = None,
    ) -> None:
        self.problem = problem
        self.about: Mapping[str, str] = about or {}
        self.path = path
        self.thing = thing
        self.where = where
        super().__init__(": ".join(part for part in (where, thing, path, problem) if part))

    def of(
        self, *, where: str = "", thing: str = "", about: Mapping[str, str] | None = None
    ) -> InvalidManifest:
        """Return the same error with the source or the object filled in."""
        return InvalidManifest(
            self.problem,
            path=self.path,
            thing=self.thing or thing,
            where=self.where or where,
            about=self.about or about,
        )


class CloudError(OutriderError):
    """AWS refused a call; *code* is the API's own error code."""

    def __init__(self, message: str, code: str = "") -> None:
        self.code = code
        super().__init__(message)


class CapacityError(CloudError):
    """No capacity, address or quota."""


class Throttled(CloudError):
    """The API asks for fewer calls."""


class NotFound(CloudError):
    """The resource named does not exist."""


class Denied(CloudError):
    """A permission or a credential is missing or expired."""


class BuildFailed(CloudError):
    """A seed's build cannot go on; asking again changes nothing."""


class ClusterError(OutriderError):
    """The Kubernetes API refused a call; *status* is its HTTP status, 0 where none came."""

    def __init__(self, message: str, status: int = 0) -> None:
        self.status = status
        super().__init__(message)


class Conflict(ClusterError):
    """409: somebody else wrote first, or the object exists."""


class Gone(ClusterError):
    """404 or 410: the object is no more."""


class Blocked(ClusterError):
    """429 on an eviction: a PodDisruptionBudget holds the pod."""


class Unreachable(ClusterError):
    """The API server does not answer."""


class LedgerError(OutriderError):
    """The ledger refused a write."""


class NotHolder(LedgerError):
    """The planning lease is somebody else's now."""


class AlreadyDone(LedgerError):
    """The conditional write says that this step was taken before."""


class StateTooNew(OutriderError):
    """State was written by a release that this one knows nothing of."""
