"""Whether a caller's request may be tried at all.

Rules: pure; every fault names its field as the wire does and says what to do; all faults of a request are told at once.
The bounds are those of the field comments in protos/gearshift/v1.
"""

from __future__ import annotations

import math
import re

import msgspec

from gearshift.core.errors import FieldViolation, InvalidRequestError
from gearshift.core.request import (
    NO_PARAMETERS,
    NO_POLICY,
    EmbedRequest,
    Image,
    LabelOutput,
    Message,
    Output,
    Parameters,
    Policy,
    Request,
    StreamPolicy,
    Task,
    Text,
    Tool,
    ToolCall,
)
from gearshift.core.words import Role, ToolMode

MAX_TEXT_CHARACTERS = 8 * 1024 * 1024
"""Of one text; far above every model's context, below what would hurt the process."""
MAX_MESSAGES = 4096
MAX_TOOLS = 128
MAX_LABELS = 256
MAX_EXAMPLES = 256
MAX_INPUTS = 2048
MAX_IMAGE_BYTES = 20 * 1024 * 1024
MAX_STATE_BYTES = 1024 * 1024
MAX_SCHEMA_BYTES = 256 * 1024
MAX_CORRECTION_BYTES = 64 * 1024
MAX_STOP = 8
MAX_OUTPUT_TOKENS = 1_000_000

_TASK_ID = re.compile(r"[A-Za-z0-9_./-]{1,128}\Z")
_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_IMAGE_TYPES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})

_Faults = list[FieldViolation]


def validate(request: Request, *, task_known: bool = False) -> None:
    """Check a call.

    Args:
        task_known: an equal task has been checked before.

    Raises:
        InvalidRequestError: it is wrong; names every field.

    """
    faults: _Faults = []
    _check_id(request.request_id, "call.request_id", faults)
    if not task_known:
        _check_task(request.task, "call.task", faults)
    _check_messages(request.messages, faults)
    system = request.system
    if system is not None:
        if system.text is not None:
            _check_text(system.text, "call.system.text", faults)
        for name, value in system.variables.items():
            _check_text(value, f"call.system.variables.{name[:64]}", faults)
    if request.tools or request.tool_choice.mode is not ToolMode.AUTO:
        _check_tools(request, faults)
    if request.output is not None:
        _check_output(request.output, faults)
    if request.parameters is not NO_PARAMETERS:
        _check_parameters(request.parameters, faults)
    if request.policy is not NO_POLICY:
        _check_policy(request.policy, "call.policy", faults)
    if request.stream is not None:
        _check_stream(request.stream, faults)
    if faults:
        raise InvalidRequestError(faults)


def validate_embed(request: EmbedRequest) -> None:
    """Check an embedding.

    Raises:
        InvalidRequestError: it is wrong; names every field.

    """
    faults: _Faults = []
    _check_id(request.request_id, "request_id", faults)
    _check_task(request.task, "task", faults)
    if not request.inputs:
        faults.append(_fault("inputs", "at least one text is required"))
    if len(request.inputs) > MAX_INPUTS:
        faults.append(_fault("inputs", f"{len(request.inputs)} texts are more than {MAX_INPUTS}; send several calls"))
    for index, text in enumerate(request.inputs[:MAX_INPUTS]):
        if not text.strip():
            faults.append(_fault(f"inputs[{index}]", "must not be empty"))
        else:
            _check_text(text, f"inputs[{index}]", faults)
    if request.dimensions is not None and not 1 <= request.dimensions <= 65_536:
        faults.append(_fault("dimensions", "must be 1 to 65536"))
    _check_policy(request.policy, "policy", faults)
    if faults:
        raise InvalidRequestError(faults)


def _fault(field: str, description: str) -> FieldViolation:
    return FieldViolation(field=field, description=description)


def _check_id(request_id: str, field: str, faults: _Faults) -> None:
    # By its characters: without a pattern nearly no call needs the pattern engine, which is large.
    if not (0 < len(request_id) <= 128 and request_id.isascii() and request_id.isprintable() and " " not in request_id):
        faults.append(_fault(field, "must be 1 to 128 printable ASCII characters without spaces, or unset"))


def _check_task(task: Task, field: str, faults: _Faults) -> None:
    if not _TASK_ID.match(task.id):
        hint = "is required" if not task.id else "must be 1 to 128 of letters, digits, - _ . /"
        faults.append(_fault(f"{field}.id", f"{hint}: the id that cost is attributed to, such as email-triage"))


def _check_messages(messages: tuple[Message, ...], faults: _Faults) -> None:
    if len(messages) > MAX_MESSAGES:
        faults.append(_fault("call.messages", f"{len(messages)} messages are more than {MAX_MESSAGES}"))
        return
    if len(messages) == 1 and messages[0].role is Role.USER and messages[0].provider_state is None:
        # Most calls: one text, with nothing wrong.
        parts = messages[0].parts
        text = parts[0].text if len(parts) == 1 and isinstance(parts[0], Text) else ""
        if text and len(text) <= MAX_TEXT_CHARACTERS and not text.isspace():
            return
    asked = False
    for index, message in enumerate(messages):
        field = f"call.messages[{index}]"
        if not message.parts:
            faults.append(_fault(f"{field}.parts", "at least one part is required"))
        for place, part in enumerate(message.parts):
            name = f"{field}.parts[{place}]"
            if isinstance(part, Text):
                _check_text(part.text, f"{name}.text", faults)
                asked = asked or (message.role is not Role.ASSISTANT and bool(part.text.strip()))
            elif isinstance(part, Image):
                _check_image(part, f"{name}.image", faults)
                asked = asked or message.role is Role.USER
            else:
                if isinstance(part, ToolCall):
                    _check_tool_call(part, f"{name}.tool_call", faults)
                else:
                    if not part.tool_call_id:
                        faults.append(
                            _fault(f"{name}.tool_result.tool_call_id", "is required: the id of the tool call")
                        )
                    _check_text(part.content, f"{name}.tool_result.content", faults)
                asked = asked or message.role is Role.TOOL
        state = message.provider_state
        if state is not None and len(state.data) > MAX_STATE_BYTES:
            faults.append(_fault(f"{field}.provider_state.data", f"is larger than {MAX_STATE_BYTES} bytes"))
    if not asked and not faults:
        faults.append(_fault("call.prompt", "is empty: send a prompt, or messages with at least one user message"))


def _check_tool_call(call: ToolCall, field: str, faults: _Faults) -> None:
    for name in ("id", "name"):
        if not getattr(call, name):
            faults.append(_fault(f"{field}.{name}", "is required, as the model gave it"))
    if len(call.arguments) > MAX_TEXT_CHARACTERS:
        _check_text(call.arguments, f"{field}.arguments", faults)
    elif call.arguments and not _is_object(call.arguments):
        # Some providers take any text here, others only an object: the stage must not decide whether a call is valid.
        faults.append(_fault(f"{field}.arguments", "must be a JSON object, as text"))


def _is_object(text: str) -> bool:
    try:
        msgspec.json.decode(text, type=dict[str, object])
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return False
    return True


def _check_text(text: str, field: str, faults: _Faults) -> None:
    if len(text) > MAX_TEXT_CHARACTERS:
        faults.append(_fault(field, f"has {len(text)} characters, more than {MAX_TEXT_CHARACTERS}"))


def _check_image(image: Image, field: str, faults: _Faults) -> None:
    if image.url is not None:
        if not image.url.startswith("https://"):
            faults.append(_fault(f"{field}.url", "must begin with https://"))
    elif not image.data:
        faults.append(_fault(f"{field}.data", "is empty"))
    elif len(image.data) > MAX_IMAGE_BYTES:
        faults.append(_fault(f"{field}.data", f"is larger than {MAX_IMAGE_BYTES} bytes"))
    elif image.media_type not in _IMAGE_TYPES:
        faults.append(_fault(f"{field}.media_type", f"must be one of {', '.join(sorted(_IMAGE_TYPES))}"))


def _check_tools(request: Request, faults: _Faults) -> None:
    if len(request.tools) > MAX_TOOLS:
        faults.append(_fault("call.tools", f"{len(request.tools)} tools are more than {MAX_TOOLS}"))
    names: set[str] = set()
    for index, tool in enumerate(request.tools[:MAX_TOOLS]):
        field = f"call.tools[{index}]"
        _check_tool(tool, field, names, faults)
        names.add(tool.name)
    choice = request.tool_choice
    if choice.mode is ToolMode.NAMED and choice.name not in names:
        faults.append(_fault("call.tool_choice.name", f"names no tool of this call: {choice.name!r}"))
    if choice.mode is ToolMode.REQUIRED and not request.tools:
        faults.append(_fault("call.tool_choice.mode", "requires a tool, and the call has none"))


def _check_tool(tool: Tool, field: str, names: set[str], faults: _Faults) -> None:
    if not _TOOL_NAME.match(tool.name):
        faults.append(_fault(f"{field}.name", "must be 1 to 64 of letters, digits, - _"))
    elif tool.name in names:
        faults.append(_fault(f"{field}.name", f"{tool.name} stands twice"))
    if len(tool.parameters_schema) > MAX_SCHEMA_BYTES:
        faults.append(_fault(f"{field}.parameters_schema", f"is larger than {MAX_SCHEMA_BYTES} bytes"))


def _check_output(output: Output, faults: _Faults) -> None:
    if isinstance(output, LabelOutput):
        labels, field = output.labels, "call.output.labels"
        if not 2 <= len(labels) <= MAX_LABELS:
            faults.append(_fault(f"{field}.labels", f"needs 2 to {MAX_LABELS} labels, not {len(labels)}"))
        for index, label in enumerate(labels[:MAX_LABELS]):
            if not label.strip() or len(label) > 128 or label != label.strip():
                faults.append(
                    _fault(f"{field}.labels[{index}]", "must be 1 to 128 characters without spaces around it")
                )
        if len(set(labels)) < len(labels):
            faults.append(_fault(f"{field}.labels", "a label stands twice"))
        for index, (_, label) in enumerate(output.examples[:MAX_EXAMPLES]):
            if label not in labels:
                faults.append(_fault(f"{field}.examples[{index}].label", f"{label!r} is not among the labels"))
    else:
        field = "call.output.json"
        if len(output.schema.encode()) > MAX_SCHEMA_BYTES:
            faults.append(_fault(f"{field}.schema", f"is larger than {MAX_SCHEMA_BYTES} bytes"))
        if not _TOOL_NAME.match(output.name):
            faults.append(_fault(f"{field}.name", "must be 1 to 64 of letters, digits, - _"))
    if len(output.examples) > MAX_EXAMPLES:
        faults.append(_fault(f"{field}.examples", f"are more than {MAX_EXAMPLES}"))


def _check_parameters(parameters: Parameters, faults: _Faults) -> None:
    field = "call.parameters"
    if parameters.temperature is not None and not _within(parameters.temperature, 0, 2):
        faults.append(_fault(f"{field}.temperature", "must be 0 to 2"))
    if parameters.top_p is not None and (not _within(parameters.top_p, 0, 1) or parameters.top_p == 0):
        faults.append(_fault(f"{field}.top_p", "must be above 0, to 1"))
    if parameters.max_tokens is not None and not 1 <= parameters.max_tokens <= MAX_OUTPUT_TOKENS:
        faults.append(_fault(f"{field}.max_tokens", f"must be 1 to {MAX_OUTPUT_TOKENS}"))
    if parameters.stop and (
        len(parameters.stop) > MAX_STOP or any(not 1 <= len(word) <= 64 for word in parameters.stop)
    ):
        faults.append(_fault(f"{field}.stop", f"must be at most {MAX_STOP} words of 1 to 64 characters"))


def _check_policy(policy: Policy, field: str, faults: _Faults) -> None:
    if policy.max_attempts is not None and policy.max_attempts < 1:
        faults.append(_fault(f"{field}.max_attempts", "must be at least 1"))
    if policy.max_hops is not None and policy.max_hops < 0:
        faults.append(_fault(f"{field}.max_hops", "must be at least 0"))
    if policy.max_cost_usd is not None and not (policy.max_cost_usd.is_finite() and policy.max_cost_usd >= 0):
        faults.append(_fault(f"{field}.max_cost_usd", "must be a decimal such as 0.02, at least 0"))
    for name in ("min_confidence", "escalation_threshold"):
        if not _within(getattr(policy, name), 0, 1):
            faults.append(_fault(f"{field}.{name}", "must be 0 to 1"))


def _check_stream(stream: StreamPolicy, faults: _Faults) -> None:
    if stream.hold_back_tokens is not None and not 0 <= stream.hold_back_tokens <= 4096:
        faults.append(_fault("stream.hold_back_tokens", "must be 0 to 4096"))
    if stream.hold_back_ms is not None and not 0 <= stream.hold_back_ms <= 60_000:
        faults.append(_fault("stream.hold_back_ms", "must be 0 to 60000"))


def _within(value: float | None, least: float, most: float) -> bool:
    return value is None or (math.isfinite(value) and least <= value <= most)


def check_outcome(request_id: str, correction: str) -> None:
    """Check what a caller reports of an answer: whose it is, and what it should have been.

    Raises:
        InvalidRequestError: the id is none, or the correction is too large.
    """
    faults: _Faults = []
    _check_id(request_id, "request_id", faults)
    if len(correction.encode()) > MAX_CORRECTION_BYTES:
        faults.append(_fault("correction", f"is larger than {MAX_CORRECTION_BYTES} bytes"))
    if faults:
        raise InvalidRequestError(faults)


def check_prompt(task_id: str, text: str) -> None:
    """Check a system prompt that is to be stored.

    Raises:
        InvalidRequestError: the task's id is not one, or the text is too large.
    """
    faults: _Faults = []
    if not _TASK_ID.match(task_id):
        faults.append(_fault("task_id", "must be 1 to 128 of letters, digits, - _ . /"))
    _check_text(text, "text", faults)
    if faults:
        raise InvalidRequestError(faults)
