"""From what a client of OpenAI's API sends to a request of the core.

Rules: pure; decides nothing. Every refusal names the field as the client wrote it. What cannot be honoured is refused by
name when the answer would differ for the lack of it, and passed over when it is only a hint; docs/openai-http.md lists both.
Ranges are validation.py's to check; `OpenAiNames` gives its faults the client's names.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn, TypeVar

import msgspec
from msgspec import Raw

from gearshift.core.config.model import OpenAiConfig
from gearshift.core.config.problems import suggestion
from gearshift.core.errors import FieldViolation, InvalidRequestError, UnknownTaskError, invalid
from gearshift.core.prompt import fill
from gearshift.core.request import (
    NO_PARAMETERS,
    EmbedRequest,
    Image,
    JsonOutput,
    LabelOutput,
    Message,
    Output,
    Parameters,
    Part,
    ProviderState,
    Request,
    SystemPrompt,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from gearshift.core.words import InputType, ReasoningEffort, Role, TaskType, ToolMode, Truncation
from gearshift.server.web.openai.bodies import (
    AnyMessage,
    AssistantMessage,
    ChatBody,
    ChosenTool,
    DeveloperMessage,
    EmbeddingsBody,
    ImagePart,
    JsonFormat,
    RefusalPart,
    SchemaFormat,
    SystemMessage,
    TextPart,
    ToolMessage,
    UserMessage,
)
from gearshift.server.web.openai.names import OpenAiNames
from gearshift.server.web.openai.settings import Settings, policy_of, settings_of, task_of

ANY_TASK = "gearshift"
"""The model name that leaves task and chain to the router."""
TASK, CHAIN = "task:", "chain:"

_CHAT = msgspec.json.Decoder(ChatBody)
_EMBEDDINGS = msgspec.json.Decoder(EmbeddingsBody)
_DATA_URI = re.compile(r"data:([a-z]+/[a-z0-9.+-]+);base64,", re.IGNORECASE)
_PLACE_OF_FAULT = re.compile(r" - at `\$\.?(.*)`\Z", re.DOTALL)
_QUOTED = re.compile(r"`([^`]*)`")
_WHOLE = "text"
"""The place that a prompt with braces of its own is put into, so that none of them is read as a place."""
_EFFORTS: Mapping[str, ReasoningEffort] = {
    "none": ReasoningEffort.NONE,
    "minimal": ReasoningEffort.LOW,
    "low": ReasoningEffort.LOW,
    "medium": ReasoningEffort.MEDIUM,
    "high": ReasoningEffort.HIGH,
    "xhigh": ReasoningEffort.HIGH,
    "max": ReasoningEffort.HIGH,
}
_NOT_SERVED = ("audio", "function_call", "functions", "moderation", "prediction", "web_search_options")
B = TypeVar("B")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatCall:
    """A chat completion that was asked for. `request.stream` is unset: it depends on the configuration."""

    request: Request
    settings: Settings
    is_stream: bool
    include_usage: bool
    names: OpenAiNames

    @property
    def is_repeatable(self) -> bool:
        """Whether the caller chose the request id, so that a repeat joins the call."""
        return bool(self.settings.request_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingsCall:
    """Embeddings that were asked for."""

    request: EmbedRequest
    settings: Settings
    is_base64: bool

    @property
    def is_repeatable(self) -> bool:
        """Whether the caller chose the request id, so that a repeat joins the call."""
        return bool(self.settings.request_id)


def chat_call(data: bytes, config: OpenAiConfig, tenant: str, request_id: str) -> ChatCall:
    """Read a chat completion.

    Args:
        data: the body.
        config: what model names stand for.
        tenant: who calls.
        request_id: of the call, where the caller chose none.

    Raises:
        InvalidRequestError: it is wrong, or asks for what is not served; names the field.
        UnknownTaskError: no model has that name.
    """
    body = _read(data, _CHAT.decode, ChatBody.__struct_fields__)
    _refuse_what_is_not_served(body)
    settings, variables = settings_of(body.metadata)
    task_id, kind = named_task(body.model, config, settings)
    if kind is TaskType.EMBED:
        raise invalid("model", "chain:embed serves embeddings: call /v1/embeddings")
    names = OpenAiNames(body)
    request = Request(
        request_id=settings.request_id or request_id,
        tenant=tenant,
        task=task_of(settings, task_id, kind),
        messages=_messages(body.messages, names),
        system=_system(body.messages, variables),
        tools=tuple(
            Tool(
                name=each.function.name,
                description=each.function.description or "",
                parameters_schema=_text_of(each.function.parameters),
            )
            for each in body.tools or ()
        ),
        tool_choice=_tool_choice(body),
        output=_output(body, settings),
        parameters=_parameters(body),
        policy=policy_of(settings),
    )
    options = body.stream_options
    return ChatCall(
        request=request,
        settings=settings,
        is_stream=bool(body.stream),
        include_usage=options is not None and bool(options.include_usage),
        names=names,
    )


def embeddings_call(data: bytes, config: OpenAiConfig, tenant: str, request_id: str) -> EmbeddingsCall:
    """Read embeddings; arguments and errors as `chat_call`."""
    body = _read(data, _EMBEDDINGS.decode, EmbeddingsBody.__struct_fields__)
    settings, _ = settings_of(body.metadata, embeds=True)
    task_id, kind = named_task(body.model, config, settings)
    if kind not in (None, TaskType.EMBED):
        raise invalid("model", f"{body.model} does not serve embeddings: use chain:embed, or a task of the type embed")
    inputs = [body.input] if isinstance(body.input, str) else body.input
    texts = [each for each in inputs if isinstance(each, str)]
    if len(texts) < len(inputs):
        raise invalid("input", "token ids are not served, since each model has its own: send texts")
    request = EmbedRequest(
        request_id=settings.request_id or request_id,
        tenant=tenant,
        task=task_of(settings, task_id, None),
        inputs=tuple(texts),
        input_type=InputType.from_word(settings.input_type) if settings.input_type is not None else None,
        dimensions=body.dimensions,
        truncation=Truncation.from_word(settings.truncate) if settings.truncate is not None else Truncation.ERROR,
        vector_space=settings.vector_space,
        allow_space_change=settings.allow_space_change,
        policy=policy_of(settings),
    )
    return EmbeddingsCall(request=request, settings=settings, is_base64=body.encoding_format == "base64")


def named_task(model: str, config: OpenAiConfig, settings: Settings) -> tuple[str, TaskType | None]:
    """Give the task's id, and its type where the model's name says one.

    Raises:
        UnknownTaskError: no model has that name.
    """
    meant = config.models.get(model, model)
    if meant == ANY_TASK:
        return settings.task or config.task, None
    if meant.startswith(TASK):
        return meant[len(TASK) :], None
    kind = meant[len(CHAIN) :] if meant.startswith(CHAIN) else ""
    for each in TaskType:
        if each.word == kind:
            return settings.task or config.task, each
    told = suggestion(model, (ANY_TASK, *config.models)) if not meant.startswith(CHAIN) else ""
    raise UnknownTaskError(
        f"there is no model {model[:128]!r} here: send `gearshift`, `task:<id>` or `chain:<task type>`, "
        f"or configure the name under server.openai.models{told}"
    )


def _read(data: bytes, decode: Callable[[bytes], B], fields: Sequence[str]) -> B:
    try:
        return decode(data)
    except msgspec.ValidationError as error:
        _refuse(str(error), fields, error)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise invalid("body", f"is not JSON: {error}") from error
    except RecursionError as error:
        raise invalid("body", "is nested too deeply") from error


def _refuse(told: str, fields: Sequence[str], cause: Exception) -> NoReturn:
    """Say what is wrong with a body, and where."""
    at = _PLACE_OF_FAULT.search(told)
    place = at[1].replace("[...]", "") if at is not None else ""
    sentence = told[: at.start()] if at is not None else told
    quoted = _QUOTED.search(sentence)
    name = quoted[1] if quoted is not None else ""
    if sentence.startswith("Object contains unknown field"):
        hint = suggestion(name, fields) if not place else ""
        raise invalid(_joined(place, name), f"is not a field that is known here{hint}") from cause
    if sentence.startswith("Object missing required field"):
        raise invalid(_joined(place, name), "is required") from cause
    raise invalid(place or "body", sentence[:1].lower() + sentence[1:]) from cause


def _joined(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _refuse_what_is_not_served(body: ChatBody) -> None:
    faults: list[FieldViolation] = []

    def refuse(field: str, why: str) -> None:
        faults.append(FieldViolation(field=field, description=why))

    for field in _NOT_SERVED:
        if getattr(body, field) is not None:
            refuse(field, "is not served: the chain's models differ in it")
    if body.n not in (None, 1):
        refuse("n", "must be 1: the router gives the one answer that passed its gates; call again for another")
    if body.logprobs or body.top_logprobs:
        field = "logprobs" if body.logprobs else "top_logprobs"
        refuse(field, "are not passed on: the router judges by them, and gives `gearshift.confidence`")
    for field in ("frequency_penalty", "presence_penalty"):
        if getattr(body, field):
            refuse(field, "is not served: few of the chain's models take it; leave it out, or send 0")
    if body.logit_bias:
        refuse("logit_bias", "is not served: token ids differ from model to model")
    if body.modalities not in (None, [], ["text"]):
        refuse("modalities", "must be text alone")
    if body.store:
        refuse("store", "must be false: answers are not kept for being fetched")
    if body.service_tier not in (None, "auto", "default"):
        refuse("service_tier", "must be auto or default")
    if body.verbosity not in (None, "medium"):
        refuse("verbosity", "is not served: say it in the prompt")
    if body.max_tokens is not None and body.max_completion_tokens is not None:
        refuse("max_tokens", "is the older name of max_completion_tokens: send one of the two")
    if body.stream_options is not None and not body.stream:
        refuse("stream_options", "is for streams: set `stream`")
    if faults:
        raise InvalidRequestError(faults)


def _system(messages: Sequence[AnyMessage], variables: Mapping[str, str]) -> SystemPrompt | None:
    """Give the one system prompt: all instructions, wherever they stand, in their order.

    Braces that nobody gave a value for are the prompt's own: then it goes to the model as it was sent.
    """
    pieces = [_joined_text(each.content) for each in messages if isinstance(each, SystemMessage | DeveloperMessage)]
    text = "\n\n".join(piece for piece in pieces if piece)
    if variables:
        return SystemPrompt(text=text or None, variables=variables)
    if not text:
        return None
    if "{{" in text:
        try:
            fill(text, {})
        except InvalidRequestError:
            return SystemPrompt(text=f"{{{{{_WHOLE}}}}}", variables={_WHOLE: text})
    return SystemPrompt(text=text)


def _messages(messages: Sequence[AnyMessage], names: OpenAiNames) -> tuple[Message, ...]:
    given: list[Message] = []
    for index, message in enumerate(messages):
        if isinstance(message, SystemMessage | DeveloperMessage):
            continue
        if isinstance(message, ToolMessage):
            result = ToolResult(tool_call_id=message.tool_call_id, content=_joined_text(message.content))
            if given and given[-1].role is Role.TOOL:
                # The results of one turn's calls belong together.
                given[-1] = Message(role=Role.TOOL, parts=(*given[-1].parts, result))
                continue
            given.append(Message(role=Role.TOOL, parts=(result,)))
        elif isinstance(message, UserMessage):
            given.append(Message(role=Role.USER, parts=_user_parts(message, index)))
        else:
            given.append(_assistant(message, index))
        names.places.append(index)
    return tuple(given)


def _user_parts(message: UserMessage, index: int) -> tuple[Part, ...]:
    if isinstance(message.content, str):
        return (Text(message.content),)
    parts: list[Part] = []
    for place, part in enumerate(message.content):
        if isinstance(part, ImagePart):
            parts.append(_image(part, f"messages[{index}].content[{place}].image_url.url"))
        else:
            parts.append(Text(part.text))
    return tuple(parts)


def _image(part: ImagePart, field: str) -> Image:
    url = part.image_url.url
    if url[:5].lower() != "data:":
        return Image(url=url)
    head = _DATA_URI.match(url)
    if head is None:
        raise invalid(field, "must be an https address, or begin with data:image/<kind>;base64,")
    try:
        data = base64.b64decode(url[head.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid(field, "is not base64") from error
    return Image(data=data, media_type=head[1].lower())


def _assistant(message: AssistantMessage, index: int) -> Message:
    for field in ("audio", "function_call"):
        if getattr(message, field) is not None:
            raise invalid(f"messages[{index}].{field}", "is not served")
    text = message.refusal or ""
    if isinstance(message.content, str):
        text = message.content or text
    elif message.content is not None:
        text = "".join(part.refusal if isinstance(part, RefusalPart) else part.text for part in message.content)
    calls = [
        ToolCall(id=each.id, name=each.function.name, arguments=each.function.arguments)
        for each in message.tool_calls or ()
    ]
    parts: list[Part] = [Text(text)] if text or not calls else []
    state: ProviderState | None = None
    if (kept := message.gearshift) is not None:
        try:
            data = base64.b64decode(kept.state, validate=True)
        except (binascii.Error, ValueError) as error:
            raise invalid(f"messages[{index}].gearshift.state", "is not base64") from error
        state = ProviderState(provider=kept.provider, model=kept.model, data=data)
    return Message(role=Role.ASSISTANT, parts=(*parts, *calls), provider_state=state)


def _joined_text(content: str | Sequence[TextPart]) -> str:
    return content if isinstance(content, str) else "\n".join(part.text for part in content)


def _tool_choice(body: ChatBody) -> ToolChoice:
    chosen, is_single = body.tool_choice, body.parallel_tool_calls is False and bool(body.tools)
    if chosen is None:
        return ToolChoice(is_single=is_single)
    if isinstance(chosen, ChosenTool):
        return ToolChoice(mode=ToolMode.NAMED, name=chosen.function.name, is_single=is_single)
    return ToolChoice(mode=ToolMode.from_word(chosen), is_single=is_single)


def _output(body: ChatBody, settings: Settings) -> Output | None:
    wanted = body.response_format
    if settings.labels:
        if isinstance(wanted, JsonFormat | SchemaFormat):
            raise invalid("metadata.gearshift.labels", "and response_format exclude each other")
        return LabelOutput(labels=settings.labels)
    if isinstance(wanted, JsonFormat):
        return JsonOutput()
    if isinstance(wanted, SchemaFormat):
        return JsonOutput(schema=_text_of(wanted.json_schema.schema), name=wanted.json_schema.name)
    return None


def _parameters(body: ChatBody) -> Parameters:
    stop = body.stop
    parameters = Parameters(
        temperature=body.temperature,
        top_p=body.top_p,
        max_tokens=body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens,
        stop=() if stop is None else (stop,) if isinstance(stop, str) else tuple(stop),
        seed=body.seed,
        reasoning_effort=None if body.reasoning_effort is None else _EFFORTS[body.reasoning_effort],
    )
    return NO_PARAMETERS if parameters == NO_PARAMETERS else parameters


def _text_of(schema: Raw) -> str:
    text = bytes(schema).decode()
    return "" if text == "null" else text
