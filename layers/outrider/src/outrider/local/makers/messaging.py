"""Makers of queues, topics, buses, rules and schedules."""

from __future__ import annotations

import json

from outrider.local.makers.maker import Json, Maker, tags
from outrider.local.region import ACCOUNT, REGION
from outrider.local.schedules import Target
from outrider.local.template import Made


class Messaging(Maker):
    """Queues, topics, buses, rules, schedules."""

    def queue(self, logical_id: str, properties: Json) -> Made:
        """Make a queue whose name carries its logical id."""
        fifo = str(properties.get("FifoQueue", "")).lower() == "true"
        name = properties.get("QueueName") or self.stack.physical(
            logical_id, ".fifo" if fifo else "", 80
        )
        attributes = {
            key: value if isinstance(value, str) else json.dumps(value)
            for key, value in properties.items()
            if key not in ("QueueName", "Tags", "RedriveAllowPolicy")
        }
        url = self.client("sqs").create_queue(
            QueueName=name, Attributes=attributes, tags=tags(properties.get("Tags"))
        )["QueueUrl"]
        arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"
        return Made(url, {"Arn": arn, "QueueName": name, "QueueUrl": url})

    def queue_policy(self, logical_id: str, properties: Json) -> Made:
        """Set the policy of the queues named."""
        for url in properties["Queues"]:
            self.client("sqs").set_queue_attributes(
                QueueUrl=url, Attributes={"Policy": json.dumps(properties["PolicyDocument"])}
            )
        return self.recorded(logical_id, properties)

    def topic(self, logical_id: str, properties: Json) -> Made:
        """Make an SNS topic."""
        name = properties.get("TopicName") or self.stack.physical(logical_id)
        arn = self.client("sns").create_topic(Name=name)["TopicArn"]
        for one in properties.get("Subscription", []):
            self.client("sns").subscribe(
                TopicArn=arn, Protocol=one["Protocol"], Endpoint=one["Endpoint"]
            )
        return Made(arn, {"TopicArn": arn, "TopicName": name})

    def subscription(self, _logical_id: str, properties: Json) -> Made:
        """Subscribe to a topic."""
        made = self.client("sns").subscribe(
            TopicArn=properties["TopicArn"],
            Protocol=properties["Protocol"],
            Endpoint=properties.get("Endpoint", ""),
            ReturnSubscriptionArn=True,
        )
        return Made(made["SubscriptionArn"], {"Arn": made["SubscriptionArn"]})

    def bus(self, _logical_id: str, properties: Json) -> Made:
        """Make an event bus."""
        name = properties["Name"]
        arn = self.client("events").create_event_bus(Name=name)["EventBusArn"]
        return Made(name, {"Arn": arn, "Name": name})

    def rule(self, logical_id: str, properties: Json) -> Made:
        """Make a rule with its targets; one with a schedule goes to the clock as well."""
        bus = properties.get("EventBusName", "default")
        name = properties.get("Name") or self.stack.physical(logical_id)
        request: Json = {"Name": name, "State": properties.get("State", "ENABLED")}
        if "Description" in properties:
            request["Description"] = properties["Description"]
        if "EventPattern" in properties:
            request["EventPattern"] = json.dumps(properties["EventPattern"])
            request["EventBusName"] = bus
        if "ScheduleExpression" in properties:
            request["ScheduleExpression"] = properties["ScheduleExpression"]
        events = self.client("events")
        arn = events.put_rule(**request)["RuleArn"]
        if properties.get("Targets"):
            events.put_targets(Rule=name, EventBusName=bus, Targets=properties["Targets"])
        return Made(name if bus == "default" else f"{bus}|{name}", {"Arn": arn})

    def archive(self, logical_id: str, properties: Json) -> Made:
        """Make an archive of a bus."""
        name = properties.get("ArchiveName") or self.stack.physical(logical_id, "", 48)
        request = {key: value for key, value in properties.items() if key != "ArchiveName"}
        if "EventPattern" in request:
            request["EventPattern"] = json.dumps(request["EventPattern"])
        arn = self.client("events").create_archive(
            **{**request, "ArchiveName": name, "EventSourceArn": request.pop("SourceArn")}
        )["ArchiveArn"]
        return Made(name, {"Arn": arn, "ArchiveName": name})

    def schedule(self, logical_id: str, properties: Json) -> Made:
        """Make a schedule of EventBridge Scheduler, and put it on the clock."""
        name = properties.get("Name") or self.stack.physical(logical_id)
        arn = self.client("scheduler").create_schedule(**{**properties, "Name": name})[
            "ScheduleArn"
        ]
        target = properties["Target"]
        retry = target.get("RetryPolicy", {})
        if properties.get("State", "ENABLED") == "ENABLED":
            self.rooms.schedules.add(
                name,
                properties["ScheduleExpression"],
                Target(
                    arn=target["Arn"],
                    payload=target.get("Input"),
                    dead_letters=target.get("DeadLetterConfig", {}).get("Arn", ""),
                    attempts=int(retry.get("MaximumRetryAttempts", 185)),
                    group=target.get("SqsParameters", {}).get("MessageGroupId", ""),
                ),
                at_once=True,
            )
        return Made(name, {"Arn": arn})

    def schedule_group(self, logical_id: str, properties: Json) -> Made:
        """Make a group of schedules."""
        name = properties.get("Name") or self.stack.physical(logical_id)
        arn = self.client("scheduler").create_schedule_group(Name=name)["ScheduleGroupArn"]
        return Made(name, {"Arn": arn})
