"""EC2 and its neighbours as the flows ask for them: one object that hands each question to its
module.

It fits `flows.ports.Cloud` by shape and holds nothing but the session and what identifies the
cluster. Refuses to decide: what a selector found becomes a status in `core.launch.readiness`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

from outrider.adapters.aws import errors, fleet, images, network, prices, profiles, types
from outrider.adapters.aws.instances import Instances
from outrider.adapters.aws.registry import Registry
from outrider.adapters.aws.session import Session
from outrider.adapters.aws.snapshots import Seeders
from outrider.adapters.aws.templates import Templates
from outrider.apis import labels
from outrider.apis.nodeclass import EC2NodeClass
from outrider.core.catalog.describe import type_requirements
from outrider.core.catalog.instancetype import Catalog, Ec2Facts, InstanceType, Offering
from outrider.core.launch import readiness, tags
from outrider.core.launch.bootstrap import ClusterIdentity
from outrider.core.launch.fleet import Subnet
from outrider.core.launch.readiness import Found
from outrider.core.launch.template import TemplateRequest
from outrider.core.records import FleetResult, Instance
from outrider.core.seeding import Image
from outrider.errors import CapacityError, CloudError, NotFound, Throttled

Json = Mapping[str, Any]

IDENTITY_AGE = timedelta(minutes=10)


class Cloud:
    """The account as one cluster's stack sees it."""

    def __init__(
        self,
        session: Session,
        cluster: str,
        stack: str,
        now: Callable[[], datetime],
        *,
        discovery_tag: str = "",
    ) -> None:
        owner = tags.owned_by(cluster, stack)
        found_by = {
            tags.EKS_CLUSTER: owner[tags.EKS_CLUSTER],
            labels.MANAGED_BY: owner[labels.MANAGED_BY],
        }
        self._session = session
        self._cluster = cluster
        self._now = now
        self._discovery_tag = discovery_tag
        self._owner = found_by
        self._templates = Templates(session)
        self._instances = Instances(session, found_by)
        self._seeders = Seeders(session, found_by)
        self._registry = Registry(session)
        self._identity: tuple[datetime, ClusterIdentity] | None = None

    # --- launching --------------------------------------------------------------------------------

    def cluster(self) -> ClusterIdentity:
        """Return the EKS cluster as nodes must know it, asked again after ten minutes."""
        now = self._now()
        if self._identity is None or now - self._identity[0] > IDENTITY_AGE:
            self._identity = (now, self._described())
        return self._identity[1]

    def ensure_template(self, template: TemplateRequest) -> tuple[str, int]:
        """Return (launch template id, version) for *template*, made if its hash is new."""
        return self._templates.ensure(template)

    def create_fleet(self, call: Json) -> FleetResult:
        """Launch; no capacity is a result with errors, not an exception."""
        try:
            return fleet.create(self._session, call, self._now())
        except NotFound as error:
            if error.code in errors.TEMPLATE_GONE:
                for config in call["LaunchTemplateConfigs"]:
                    self._templates.forget(
                        config["LaunchTemplateSpecification"]["LaunchTemplateName"]
                    )
            raise

    def subnets(self, ids: Sequence[str]) -> tuple[Subnet, ...]:
        """Return subnets by id with their free addresses now."""
        return network.free_addresses(self._session, ids)

    def sweep_templates(self, age: timedelta) -> int:
        """Delete our launch templates older than *age*; return how many."""
        return self._templates.delete_unused(self._owner, self._now(), age)

    # --- instances --------------------------------------------------------------------------------

    def instances(
        self, ids: Iterable[str] = (), *, tags: Mapping[str, str] | None = None
    ) -> tuple[Instance, ...]:
        """Return instances by id, or all of this cluster's by tag; unknown ids are left out."""
        return self._instances.find(ids, tags)

    def terminate(self, ids: Sequence[str]) -> None:
        """Terminate instances; an unknown id does not keep the others alive."""
        self._instances.terminate(ids)

    def name_instance(self, instance_id: str, claim: str) -> None:
        """Tag an instance with the NodeClaim that it serves."""
        self._instances.name(instance_id, claim, self._cluster)

    def adopt_instance(self, instance_id: str) -> None:
        """Tag an instance of this cluster that somebody else launched as this stack's."""
        self._instances.adopt(instance_id)

    def instance_status(self) -> tuple[Json, ...]:
        """Return impaired statuses and scheduled events of this cluster's instances."""
        return self._instances.health()

    # --- the catalogue ----------------------------------------------------------------------------

    def catalog_facts(
        self, zones: Collection[str], reservations: Iterable[Json], now: datetime
    ) -> Catalog:
        """Return what is sold in *zones* (everywhere if none are named), with prices.

        *reservations* are entries of DescribeCapacityReservations that node classes select.
        """
        sold = types.sold_in(self._session, zones)
        facts = types.facts(self._session, sold)
        listed = prices.on_demand(self._session, facts)
        try:
            market = prices.spot(self._session, facts, now)
        except (Throttled, CapacityError):
            market = {}
        zone_ids = types.zone_ids(self._session)
        held: dict[str, list[Offering]] = {}
        for entry in reservations:
            offering = types.reserved_offering(entry, zone_ids)
            held.setdefault(str(entry["InstanceType"]), []).append(offering)
        kinds = []
        for name in sorted(facts):
            here = sorted(sold[name])
            offerings = [
                offering
                for zone in here
                for offering in _ways(
                    zone, zone_ids.get(zone, ""), listed.get(name), market.get((name, zone))
                )
            ]
            offerings += held.get(name, ())
            if offerings:
                kinds.append(_kind(name, facts[name], offerings))
        return Catalog(tuple(kinds), version=now.strftime("%Y%m%dT%H%M%S%f"), as_of=now)

    def reservations(self, node_class: EC2NodeClass) -> tuple[Json, ...]:
        """Return the active capacity reservations that *node_class* selects."""
        terms = node_class.spec.capacity_reservation_selector_terms
        if not terms:
            return ()
        return types.reservations(self._session, [_reservation_filters(term) for term in terms])

    def resolve(self, node_class: EC2NodeClass) -> Found:
        """Return what an EC2NodeClass's selectors find now."""
        refused: dict[str, str] = {}

        def asked(kind: str, question: Callable[[], Any], otherwise: Any) -> Any:
            try:
                return question()
            except Throttled:
                raise
            except CloudError as error:
                refused[kind] = str(error)
                return otherwise

        spec = node_class.spec
        profile = asked(
            readiness.INSTANCE_PROFILE,
            lambda: profiles.resolve(self._session, self._cluster, self._owner, node_class),
            (None, None),
        )
        found = Found(
            subnets=asked(
                readiness.SUBNETS,
                lambda: network.subnets(self._session, spec.subnet_selector_terms),
                (),
            ),
            security_groups=asked(
                readiness.SECURITY_GROUPS,
                lambda: network.security_groups(self._session, spec.security_group_selector_terms),
                (),
            ),
            amis=asked(readiness.AMIS, lambda: self._images(node_class), ()),
            instance_profile=profile[0],
            role_arn=profile[1],
            reservations=asked(
                readiness.RESERVATIONS,
                lambda: tuple(map(readiness.reservation, self.reservations(node_class))),
                (),
            ),
            refused=refused,
        )
        return replace(found, tagged=self._tagged(found))

    def _tagged(self, found: Found) -> dict[str, str]:
        """Return what has the discovery tag, where selectors found nothing: a help, no more."""
        empty = {
            readiness.SUBNETS: "" if found.subnets else "subnets",
            readiness.SECURITY_GROUPS: "" if found.security_groups else "security_groups",
        }
        told: dict[str, str] = {}
        for condition, kind in empty.items():
            if self._discovery_tag and kind and condition not in found.refused:
                with suppress(CloudError):
                    told[condition] = network.tagged(self._session, kind, self._discovery_tag)
        return {condition: values for condition, values in told.items() if values}

    # --- seeding ----------------------------------------------------------------------------------

    def image(self, reference: str) -> Image:
        """Return digest, size and architectures of an image; NotFound or Denied say why not."""
        return self._registry.image(reference)

    def builder_image(self, path: str) -> str | None:
        """Return the AMI in the public SSM parameter at *path*."""
        return images.parameter(self._session, path)

    def run_seeder(self, request: Json) -> str:
        """Launch one seed builder idempotently (client token in *request*); return its id."""
        return self._seeders.run(request)

    def builders(self, wanted: Mapping[str, str]) -> tuple[Json, ...]:
        """Return the seed builders that carry the *wanted* tags."""
        return self._seeders.builders(wanted)

    def stop_builder(self, instance_id: str) -> None:
        """Stop a seed builder."""
        self._seeders.stop(instance_id)

    def console(self, instance_id: str, state: str) -> str:
        """Return what a seed builder in *state* wrote to its serial console."""
        return self._seeders.console(instance_id, state)

    def create_snapshot(self, volume_id: str, description: str, marks: Mapping[str, str]) -> str:
        """Snapshot a builder's data volume, once per seed tag; return the snapshot id."""
        return self._seeders.snapshot(volume_id, description, marks)

    def snapshots(self, wanted: Mapping[str, str]) -> tuple[Json, ...]:
        """Return this stack's snapshots that carry the *wanted* tags."""
        return self._seeders.snapshots(wanted)

    def delete_snapshot(self, snapshot_id: str) -> bool:
        """Delete a snapshot; one that is gone is fine, one in use gives False."""
        return self._seeders.delete_snapshot(snapshot_id)

    def seed_volumes(self, wanted: Mapping[str, str]) -> tuple[Json, ...]:
        """Return loose volumes of seed builders with the *wanted* tags."""
        return self._seeders.loose_volumes(wanted)

    def delete_seed_volume(self, volume_id: str) -> None:
        """Delete a loose volume of a seed builder."""
        self._seeders.delete_volume(volume_id)

    def fast_restore(self, snapshot_id: str, zones: Sequence[str]) -> Mapping[str, str]:
        """Ask for fast restores of a snapshot in *zones*; return zone -> why not, where refused."""
        return self._seeders.fast_restore(snapshot_id, zones)

    def fast_restores(self, snapshot_id: str) -> Mapping[str, str]:
        """Return zone -> state of a snapshot's fast restores."""
        return self._seeders.fast_restores(snapshot_id)

    def end_fast_restores(self, snapshot_id: str) -> None:
        """Switch a snapshot's fast restores off."""
        self._seeders.end_fast_restores(snapshot_id)

    # --- private ----------------------------------------------------------------------------------

    def _described(self) -> ClusterIdentity:
        try:
            answer = self._session.client("eks").describe_cluster(name=self._cluster)
        except ClientError as error:
            raise errors.translated(error, "DescribeCluster") from error
        found = answer["cluster"]
        network_config = found.get("kubernetesNetworkConfig", {})
        return ClusterIdentity(
            name=self._cluster,
            endpoint=str(found.get("endpoint", "")),
            certificate_authority=str(found.get("certificateAuthority", {}).get("data", "")),
            service_cidr=str(
                network_config.get("serviceIpv4Cidr") or network_config.get("serviceIpv6Cidr") or ""
            ),
            version=str(found.get("version", "")),
            ip_family=str(network_config.get("ipFamily", "ipv4")),
            security_group_id=str(
                found.get("resourcesVpcConfig", {}).get("clusterSecurityGroupId", "")
            ),
        )

    def _images(self, node_class: EC2NodeClass) -> tuple[Json, ...]:
        return images.images(
            self._session, node_class, self.cluster().version, self._now().astimezone(UTC)
        )


def _ways(
    zone: str, zone_id: str, on_demand: float | None, spot: float | None
) -> Iterable[Offering]:
    if on_demand:
        yield Offering(zone, labels.ON_DEMAND, on_demand, True, zone_id)  # noqa: FBT003
    if spot:
        yield Offering(zone, labels.SPOT, spot, True, zone_id)  # noqa: FBT003


def _kind(name: str, ec2: Ec2Facts, offerings: Sequence[Offering]) -> InstanceType:
    return InstanceType(name, type_requirements(name, ec2), {}, {}, tuple(offerings), ec2)


def _reservation_filters(term: Any) -> list[Json]:
    if term.id:
        return [{"Name": "capacity-reservation-id", "Values": [term.id]}]
    filters = network.tag_filters(term.tags)
    if term.owner_id:
        filters.append({"Name": "owner-id", "Values": [term.owner_id]})
    if term.instance_match_criteria:
        filters.append(
            {"Name": "instance-match-criteria", "Values": [term.instance_match_criteria]}
        )
    return filters
