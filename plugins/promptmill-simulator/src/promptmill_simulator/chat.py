"""POST /v1/chat/completions. Shapes: ``CreateChatCompletionResponse`` of the OpenAPI description."""

from __future__ import annotations

from typing import Any, ClassVar

from promptmill import jsontext
from promptmill.jsontext import JSON
from promptmill_simulator.answers import Answer
from promptmill_simulator.apierror import ApiError, Reply, json_reply
from promptmill_simulator.chat_stream import stream_reply
from promptmill_simulator.fields import optional_count, required, required_text, wrong_type
from promptmill_simulator.operation import Answered, Operation
from promptmill_simulator.task import Task, count_tokens

REFUSAL = "I'm sorry, but I can't help with that."
_ROLES = frozenset({"developer", "system", "user", "assistant", "tool", "function"})


class Chat(Operation):
    """Chat completions, whole or streamed."""

    name: ClassVar[str] = "chat"
    path: ClassVar[str] = "/v1/chat/completions"

    def read(self, body: dict[str, Any]) -> Task:
        model = required_text(body, "model")
        messages = required(body, "messages")
        if not isinstance(messages, list):
            raise wrong_type("messages", "an array of objects", messages)
        if not messages:
            raise ApiError(
                400,
                "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array "
                "instead.",
                code="empty_array",
                param="messages",
            )
        texts = [_text_of(message, index) for index, message in enumerate(messages)]
        optional_count(body, "n", most=128)
        prompt = "\n".join(texts)
        return Task(
            operation=self.name,
            model=model,
            prompt=prompt,
            digest=self.tools.digester.digest(jsontext.encode(messages)),
            # Source of the overhead: the official cookbook on counting chat tokens.
            input_tokens=count_tokens(prompt) + 3 * len(texts) + 3,
            max_output_tokens=optional_count(body, "max_completion_tokens", "max_tokens"),
            body=body,
        )

    async def answer(self, task: Task) -> Answered:
        count = task.body.get("n") or 1
        answers = [await self.tools.answers.answer(task, index) for index in range(count)]
        input_tokens, output_tokens = answers[0].input_tokens, sum(answer.output_tokens for answer in answers)
        return Answered(
            {
                "id": self.tools.ids.make("chatcmpl-"),
                "object": "chat.completion",
                "created": self.created(),
                "model": task.model,
                "choices": [_choice(index, answer) for index, answer in enumerate(answers)],
                "usage": _usage(input_tokens, output_tokens),
                "service_tier": "flex" if task.body.get("service_tier") == "flex" else "default",
                "system_fingerprint": "fp_simulator",
            },
            input_tokens,
            output_tokens,
        )

    def spoil(self, body: dict[str, Any], fault: str) -> dict[str, Any]:
        if fault == "error-in-200":
            error = ApiError(500, "The upstream provider failed.", kind="server_error", code="server_error")
            return error.body
        if fault == "no-usage":
            return {key: value for key, value in body.items() if key != "usage"}
        for choice in body["choices"]:
            choice["message"]["content"] = None
            if fault == "refusal":
                choice["message"]["refusal"] = REFUSAL
        return body

    def reply(self, task: Task, body: dict[str, Any]) -> Reply:
        if task.body.get("stream") is True and "choices" in body:
            options = task.body.get("stream_options")
            return stream_reply(body, isinstance(options, dict) and options.get("include_usage") is True)
        return json_reply(body)


def _text_of(message: JSON, index: int) -> str:
    if not isinstance(message, dict):
        raise wrong_type(f"messages[{index}]", "an object", message)
    role = message.get("role")
    if role not in _ROLES:
        raise ApiError(
            400,
            f"Invalid value: {role!r}. Supported values are: {', '.join(sorted(map(repr, _ROLES)))}.",
            code="invalid_value",
            param=f"messages[{index}].role",
        )
    content = message.get("content")
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        texts = (part.get("text") for part in content if isinstance(part, dict))
        return "".join(text for text in texts if isinstance(text, str))
    if content is None and role == "assistant":
        return ""
    raise wrong_type(f"messages[{index}].content", "a string or an array of parts", content)


def _choice(index: int, answer: Answer) -> dict[str, Any]:
    return {
        "index": index,
        "message": {"role": "assistant", "content": answer.text, "refusal": None, "annotations": []},
        "logprobs": None,
        "finish_reason": answer.finish_reason,
    }


def _usage(input_tokens: int, output_tokens: int) -> dict[str, Any]:
    return {
        "prompt_tokens": input_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
