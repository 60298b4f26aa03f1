"""A call of a trace as the messages that ask the service."""

from __future__ import annotations

import json

from gearshift.core.words import TaskType
from gearshift.server.replay.trace import Call
from gearshift.v1 import call_pb2, router_pb2, task_pb2


def route_request(call: Call, request_id: str, *, is_declared: bool) -> router_pb2.RouteRequest:
    """Give the message that asks for an answer; a declared task says itself what type it is."""
    message = call_pb2.Call(task=_task(call, is_declared=is_declared), prompt=call.prompt, request_id=request_id)
    if call.system:
        message.system.text = call.system
    if call.labels:
        message.output.labels.labels.extend(call.labels)
    elif call.schema is not None:
        message.output.json.schema = json.dumps(call.schema)
    if call.max_tokens is not None:
        message.parameters.max_tokens = call.max_tokens
    return router_pb2.RouteRequest(call=message)


def embed_request(call: Call, request_id: str, *, is_declared: bool) -> router_pb2.EmbedRequest:
    """Give the message that asks for a vector."""
    task = _task(call, is_declared=is_declared)
    return router_pb2.EmbedRequest(task=task, inputs=[call.prompt], request_id=request_id)


def _task(call: Call, *, is_declared: bool) -> task_pb2.Task:
    task = task_pb2.Task(id=call.task)
    if call.type and not is_declared:
        task.type = task_pb2.TaskType.ValueType(TaskType.from_word(call.type).value)
    return task
