"""POST /v1/responses. Shapes: ``Response`` of the OpenAPI description."""

from __future__ import annotations

from typing import Any, ClassVar

from promptmill import jsontext
from promptmill.jsontext import JSON
from promptmill_simulator.apierror import ApiError
from promptmill_simulator.chat import REFUSAL
from promptmill_simulator.fields import optional_count, required, required_text, wrong_type
from promptmill_simulator.operation import Answered, Operation
from promptmill_simulator.task import Task, count_tokens


class Responses(Operation):
    """Responses, whole, in the foreground."""

    name: ClassVar[str] = "responses"
    path: ClassVar[str] = "/v1/responses"

    def read(self, body: dict[str, Any]) -> Task:
        model = required_text(body, "model")
        question = required(body, "input")
        for name in ("stream", "background"):
            if body.get(name) is True:
                raise ApiError(400, f"The simulator does not offer '{name}' for responses.", param=name)
        instructions = body.get("instructions")
        prompt = _text_of_input(question)
        return Task(
            operation=self.name,
            model=model,
            prompt=f"{instructions}\n{prompt}" if isinstance(instructions, str) else prompt,
            digest=self.tools.digester.digest(jsontext.encode([instructions, question])),
            input_tokens=count_tokens(prompt) + count_tokens(str(instructions or "")) + 6,
            max_output_tokens=optional_count(body, "max_output_tokens", least=16),
            body=body,
        )

    async def answer(self, task: Task) -> Answered:
        answer = await self.tools.answers.answer(task, 0)
        cut = answer.finish_reason == "length"
        status = "incomplete" if cut else "completed"
        body = {
            **_frame(task.body),
            "id": self.tools.ids.make("resp_"),
            "object": "response",
            "created_at": self.created(),
            "status": status,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
            "model": task.model,
            "output": [
                {
                    "id": self.tools.ids.make("msg_"),
                    "type": "message",
                    "status": status,
                    "role": "assistant",
                    "content": [{"type": "output_text", "text": answer.text, "annotations": [], "logprobs": []}],
                }
            ],
            "usage": {
                "input_tokens": answer.input_tokens,
                "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
                "output_tokens": answer.output_tokens,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": answer.input_tokens + answer.output_tokens,
            },
        }
        return Answered(body, answer.input_tokens, answer.output_tokens)

    def spoil(self, body: dict[str, Any], fault: str) -> dict[str, Any]:
        if fault == "error-in-200":
            body["status"], body["output"] = "failed", []
            body["error"] = {"code": "server_error", "message": "The model failed to answer."}
        elif fault == "no-usage":
            del body["usage"]
        elif fault == "refusal":
            body["output"][0]["content"] = [{"type": "refusal", "refusal": REFUSAL}]
        else:
            body["output"] = []
        return body


def _frame(body: dict[str, Any]) -> dict[str, Any]:
    """What a response repeats of its request."""
    given = {name: body.get(name) for name in ("instructions", "max_output_tokens", "previous_response_id")}
    return {
        **given,
        "metadata": body.get("metadata") or {},
        "parallel_tool_calls": True,
        "reasoning": {"effort": None, "summary": None},
        "service_tier": "flex" if body.get("service_tier") == "flex" else "default",
        "temperature": body.get("temperature", 1.0),
        "text": body["text"] if isinstance(body.get("text"), dict) else {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": body.get("top_p", 1.0),
        "truncation": "disabled",
    }


def _text_of_input(question: JSON) -> str:
    if isinstance(question, str):
        return question
    if not isinstance(question, list):
        raise wrong_type("input", "a string or an array of items", question)
    return "\n".join(_text_of_item(item, index) for index, item in enumerate(question))


def _text_of_item(item: JSON, index: int) -> str:
    if not isinstance(item, dict):
        raise wrong_type(f"input[{index}]", "an object", item)
    content = item.get("content")
    if isinstance(content, list):
        texts = (part.get("text") for part in content if isinstance(part, dict))
        return "".join(text for text in texts if isinstance(text, str))
    return content if isinstance(content, str) else ""
