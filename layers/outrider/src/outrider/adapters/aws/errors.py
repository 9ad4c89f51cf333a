"""Every error code of AWS that means something to us, in one place, as a class and a scope.

The class is what flows catch (`outrider.errors`); the scope says what an error of CreateFleet
speaks of and so what is marked: one *offering*, one *subnet*, the *account*'s quota, the *request*
itself, a *permission*. Karpenter treats quota and fleet-count errors as one offering's, which burns
an override a call. Codes are AWS's own spelling; no message is ever matched where a code says
enough.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from outrider.errors import CapacityError, CloudError, Denied, NotFound, Throttled

OFFERING = frozenset(
    {
        "InsufficientInstanceCapacity",
        "InsufficientHostCapacity",
        "InsufficientReservedInstanceCapacity",
        "ReservationCapacityExceeded",
        "SpotMaxPriceTooLow",
        "UnfulfillableCapacity",
        "Unsupported",
        "UnsupportedOperation",
    }
)
SUBNET = frozenset(
    {
        "InsufficientFreeAddressesInSubnet",
        "InsufficientCidrBlocks",
        "InsufficientAddressCapacity",
        "InsufficientNetworkInterfaceCapacity",
    }
)
ACCOUNT = frozenset(
    {
        "InstanceLimitExceeded",
        "MaxSpotInstanceCountExceeded",
        "VcpuLimitExceeded",
        "SpotInstanceCountExceeded",
        "MaxSpotFleetRequestCountExceeded",
    }
)
# The whole region has to wait, no pool of it is to blame.
REGION = frozenset({"MaxFleetCountExceeded"})
THROTTLED = frozenset(
    {
        "EC2ThrottledException",
        "LimitExceededException",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionInProgressException",
    }
)
DENIED = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "AuthFailure",
        "AuthFailure.ServiceLinkedRoleCreationNotPermitted",
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidClientTokenId",
        "OptInRequired",
        "PendingVerification",
        "UnauthorizedOperation",
        "UnrecognizedClientException",
    }
)
NOT_FOUND = frozenset(
    {
        "InvalidAMIID.NotFound",
        "InvalidAMIID.Unavailable",
        "InvalidGroup.NotFound",
        "InvalidInstanceID.Malformed",
        "InvalidInstanceID.NotFound",
        "InvalidLaunchTemplateId.NotFound",
        "InvalidLaunchTemplateName.NotFoundException",
        "InvalidSnapshot.NotFound",
        "InvalidSubnetID.NotFound",
        "InvalidVolume.NotFound",
        "NoSuchEntity",
        "ImageNotFoundException",
        "ParameterNotFound",
        "RepositoryNotFoundException",
        "ResourceNotFoundException",
        "StateMachineDoesNotExist",
    }
)
TEMPLATE_GONE = frozenset(
    {"InvalidLaunchTemplateId.NotFound", "InvalidLaunchTemplateName.NotFoundException"}
)
SNAPSHOT_GONE = frozenset({"InvalidSnapshot.NotFound"})
CAPACITY = OFFERING | SUBNET | ACCOUNT
NO_PREFIXES = "sufficient free Ipv4 addresses or prefixes"


def scope(code: str, message: str = "") -> str:
    """Return what an error of a launch speaks of."""
    if code in SUBNET or (code == "InvalidParameterValue" and NO_PREFIXES in message):
        return "subnet"
    if code in OFFERING:
        return "offering"
    if code in ACCOUNT:
        return "account"
    if code in REGION or code in THROTTLED:
        return "region"
    if code in DENIED:
        return "permission"
    return "request"


def translated(error: Exception, doing: str) -> CloudError:
    """Return *error* of botocore as ours; *doing* says what was tried."""
    if isinstance(error, ClientError):
        code = str(error.response.get("Error", {}).get("Code", ""))
        message = str(error.response.get("Error", {}).get("Message", error))
        return _kind(code, message)(f"{doing}: {code}: {message}", code)
    if isinstance(error, NoCredentialsError):
        return Denied(f"{doing}: {error}", "NoCredentials")
    return CloudError(f"{doing}: {error}", type(error).__name__)


@contextmanager
def speaking(doing: str) -> Iterator[None]:
    """Turn botocore's exceptions into ours while *doing* something."""
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        raise translated(error, doing) from error


def code_of(error: ClientError) -> str:
    """Return the API's error code."""
    return str(error.response.get("Error", {}).get("Code", ""))


def _kind(code: str, message: str) -> type[CloudError]:
    if code in CAPACITY or scope(code, message) == "subnet":
        return CapacityError
    if code in THROTTLED or code in REGION:
        return Throttled
    if code in NOT_FOUND:
        return NotFound
    return Denied if code in DENIED else CloudError
