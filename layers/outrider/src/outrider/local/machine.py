"""State machines: moto's interpreter (LocalStack's), with what it gets wrong put right.

The definitions are run by an interpreter that we did not write; the shims here are those that were
found by running it: JSONata by jsonata-python, a definite JSONPath gives a scalar, datetimes of SDK
results become text, SDK errors have AWS's names, Wait and Retry are on the clock (`mototime` gives
the threads and sleeps). Executions go on the timeline and their changes of status on the event bus.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any

from outrider.local.aws import Endpoint
from outrider.local.clock import Clock
from outrider.local.region import ACCOUNT, REGION
from outrider.local.timeline import Timeline

# Definitions as the interpreter parsed them, for the life of the process: they are values.
_PARSED: dict[str, Any] = {}
_P = "moto.stepfunctions.parser"
_INDEFINITE = re.compile(r"\*|\.\.|\?\(|\[[^\]]*[:,][^\]]*\]")
_SERVICES = {
    "ec2": "Ec2",
    "ssm": "Ssm",
    "sqs": "Sqs",
    "sns": "Sns",
    "lambda": "Lambda",
    "eventbridge": "EventBridge",
    "s3": "S3",
    "ecr": "Ecr",
    "iam": "Iam",
    "cloudwatch": "CloudWatch",
}


@dataclass(slots=True)
class Machines:
    """Every state machine of the account."""

    endpoint: Endpoint
    clock: Clock
    timeline: Timeline
    client: Callable[[str], Any]
    publish: Callable[[str, str, dict[str, Any], list[str]], None]
    _restore: list[Callable[[], None]] = field(default_factory=list)

    def install(self) -> None:
        """Put the shims in place."""
        import importlib

        for name in (
            "asl.component.state.exec.state_task.service.state_task_service_aws_sdk",
            "asl.component.state.exec.state_task.service.state_task_service_sfn",
            "asl.component.state.wait.wait_function.wait_function",
            "asl.eval.environment",
            "asl.jsonata.jsonata",
            "asl.utils.json_path",
            "backend.execution",
        ):
            importlib.import_module(f"{_P}.{name}")
        self._everywhere("extract_json", extract_json)
        self._everywhere("eval_jsonata_expression", eval_jsonata)
        self._everywhere("encode_jsonata_variable_declarations", declare_jsonata)
        self._everywhere("boto_client_for", self._client_for)
        self._parse_once()
        self._sdk()
        self._own_api()
        self._wait()
        self._stopped()
        self._status()

    def remove(self) -> None:
        """Give moto its own parts back."""
        while self._restore:
            self._restore.pop()()

    def _set(self, owner: Any, name: str, value: Any) -> Any:
        """Replace an attribute until `remove`; return the original."""
        original = getattr(owner, name)
        setattr(owner, name, value)
        self._restore.append(lambda: setattr(owner, name, original))
        return original

    def _everywhere(self, name: str, value: Any) -> None:
        """Replace a function in every module of the interpreter that imported it."""
        for module_name, module in list(sys.modules.items()):
            if module_name.startswith(_P) and callable(getattr(module, name, None)):
                self._set(module, name, value)

    def _client_for(
        self,
        region: str,  # noqa: ARG002 - moto's own parameter, as the next but one
        service: str,
        state_credentials: Any = None,  # noqa: ARG002 - moto's own
    ) -> Any:
        return self.client(service)

    def _parse_once(self) -> None:
        """Keep parsed definitions: ANTLR takes half a second for one, at every start.

        For the same reason a definition is not parsed as it is created; `warm` does it afterwards,
        and statelint holds the repository's own to the language.
        """
        module = sys.modules[f"{_P}.asl.parse.asl_parser"]
        parser = module.__dict__["AmazonStateLanguageParser"]
        original = parser.parse

        def parse(definition: str) -> Any:
            if definition not in _PARSED:
                _PARSED[definition] = original(definition)
            return _PARSED[definition]

        self._set(parser, "parse", staticmethod(parse))
        backend = sys.modules[f"{_P}.models"].__dict__["StepFunctionsParserBackend"]
        self._set(backend, "_validate_definition", staticmethod(_unread))

    def warm(self) -> None:
        """Parse every definition there is."""
        module = sys.modules[f"{_P}.asl.parse.asl_parser"]
        for machine in self._all():
            module.__dict__["AmazonStateLanguageParser"].parse(machine.definition)

    def _all(self) -> list[Any]:
        from moto.stepfunctions.parser.models import stepfunctions_parser_backends

        with self.endpoint.lock:
            return list(stepfunctions_parser_backends[ACCOUNT][REGION].state_machines)

    def _sdk(self) -> None:
        module = sys.modules[
            f"{_P}.asl.component.state.exec.state_task.service.state_task_service_aws_sdk"
        ]
        names = dict(module.__dict__["_SERVICE_ERROR_NAMES"])
        self._set(module, "_SERVICE_ERROR_NAMES", {**_SERVICES, **names})
        task = module.__dict__["StateTaskServiceAwsSdk"]

        def evaluate(instance: Any, env: Any, **parts: Any) -> None:
            original(instance, env, **parts)
            env.stack[-1] = _written(env.stack[-1])

        original = self._set(task, "_eval_service_task", evaluate)

    def _own_api(self) -> None:
        """Let `states:startExecution` be written as AWS has it: its parameters begin with a
        capital.
        """
        module = sys.modules[
            f"{_P}.asl.component.state.exec.state_task.service.state_task_service_sfn"
        ]
        task = module.__dict__["StateTaskServiceSfn"]

        def parameters(
            instance: Any, parameters: dict[str, Any], *names: Any, **named: Any
        ) -> None:
            original(instance, parameters, *names, **named)
            for key in [key for key in parameters if key[:1].isupper()]:
                parameters[key[:1].lower() + key[1:]] = parameters.pop(key)

        def response(_instance: Any, response: Any, *_names: Any, **_named: Any) -> None:
            for key in [key for key in response if key[:1].islower()]:
                response[key[:1].upper() + key[1:]] = _written(response.pop(key))

        original = self._set(task, "_normalise_parameters", parameters)
        self._set(task, "_normalise_response", response)

    def _wait(self) -> None:
        function = sys.modules[f"{_P}.asl.component.state.wait.wait_function.wait_function"]
        clock = self.clock

        def wait(_instance: Any, env: Any, wait_seconds: float) -> None:
            end = clock.at() + wait_seconds
            while (left := end - clock.at()) > 1e-6 and env.is_running():
                env.program_state_event.wait(left)

        self._set(function.__dict__["WaitFunction"], "_wait_interval", wait)

    def _stopped(self) -> None:
        """Let an execution that was stopped inside a Map be aborted, not failed: moto's Map fails
        when its iterations stop, and that error would hide why.
        """
        module = sys.modules[f"{_P}.asl.eval.environment"]
        stopped = module.__dict__["ProgramStopped"]

        def set_error(env: Any, error: Any) -> None:
            if not isinstance(env.program_state(), stopped):
                original(env, error)

        original = self._set(module.__dict__["Environment"], "set_error", set_error)

    def _status(self) -> None:
        module = sys.modules[f"{_P}.backend.execution"]

        def start(execution: Any) -> None:
            original_start(execution)
            self._changed(execution)

        def reflect(communication: Any) -> None:
            original_reflect(communication)
            self._changed(communication.execution)

        original_start = self._set(module.__dict__["Execution"], "start", start)
        original_reflect = self._set(
            module.__dict__["BaseExecutionWorkerCommunication"],
            "_reflect_execution_status",
            reflect,
        )

    def _changed(self, execution: Any) -> None:
        """Tell the timeline and the bus of an execution's status."""
        machine = execution.state_machine.name
        status = str(execution.status)
        self.timeline.record(
            "execution", machine=machine, name=execution.name, state="", status=status
        )
        stop = execution.stop_date
        detail = {
            "executionArn": execution.exec_arn,
            "stateMachineArn": execution.state_machine.arn,
            "name": execution.name,
            "status": status,
            "startDate": int(execution.start_date.timestamp() * 1000),
            "stopDate": int(stop.timestamp() * 1000) if stop else None,
            "input": json.dumps(execution.input_data),
            "inputDetails": {"included": True},
            "output": json.dumps(execution.output) if status == "SUCCEEDED" else None,
            "outputDetails": {"included": True} if status == "SUCCEEDED" else None,
            "error": execution.error,
            "cause": execution.cause,
        }
        self.publish(
            "aws.states",
            "Step Functions Execution Status Change",
            detail,
            [execution.exec_arn],
        )

    def running(self) -> int:
        """Return how many executions run."""
        return sum(
            str(execution.status) == "RUNNING"
            for machine in self._all()
            for execution in machine.executions
        )


def _unread(definition: str) -> None:
    """Take a definition as it is: see `Machines.warm`."""
    if not definition:
        raise ValueError("a state machine needs a definition")


@lru_cache(maxsize=512)
def _parsed(path: str) -> Any:
    from jsonpath_ng.ext import parse

    return parse(path)


def extract_json(path: str, data: Any) -> Any:
    """Return what a JSONPath names: one value where the path is definite, else the list of
    matches.
    """
    from moto.stepfunctions.parser.asl.utils.json_path import NoSuchJsonPathError

    values = [match.value for match in _parsed(path).find(data)]
    if _INDEFINITE.search(path):
        return values
    if not values:
        raise NoSuchJsonPathError(json_path=path, data=data)
    return values[0]


def eval_jsonata(expression: str) -> Any:
    """Return a JSONata expression's value, with the functions that Step Functions adds."""
    from jsonata import Jsonata

    compiled = Jsonata(expression)
    compiled.register_lambda("parse", json.loads)
    compiled.register_lambda("uuid", lambda: str(uuid.uuid4()))
    compiled.register_lambda(
        "range", lambda first, last, step: list(range(int(first), int(last) + 1, int(step)))
    )
    compiled.register_lambda(
        "partition",
        lambda items, size: [
            items[index : index + int(size)] for index in range(0, len(items), int(size))
        ],
    )
    compiled.register_lambda(
        "hash",
        lambda text, algorithm: hashlib.new(
            algorithm.replace("-", "").lower(), text.encode(), usedforsecurity=False
        ).hexdigest(),
    )
    return json.loads(json.dumps(compiled.evaluate(None)))


def declare_jsonata(bindings: dict[str, Any]) -> str:
    """Return bindings as JSONata declarations; moto's own does not escape strings."""
    return "".join(f"{name}:={json.dumps(_written(value))};" for name, value in bindings.items())


def _written(value: Any) -> Any:
    """Return *value* with datetimes as Step Functions writes them."""
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
    if isinstance(value, dict):
        return {key: _written(child) for key, child in value.items()}
    if isinstance(value, list):
        return [_written(child) for child in value]
    return value
