"""``promptmill simulate``: serve a simulated API until Ctrl-C."""

from __future__ import annotations

import signal
import sys
import threading
from typing import TYPE_CHECKING, Annotated, Any

import typer

from promptmill.errors import UsageError
from promptmill.hookspecs import hookimpl
from promptmill.secrets import Secret

if TYPE_CHECKING:
    from promptmill.options import RegisterCommand
    from promptmill_simulator.options import SimulatorOptions

AllowRemote = Annotated[bool, typer.Option("--allow-remote", help="Allow a host that other machines can reach.")]
RetryAfter = Annotated[str | None, typer.Option(help="What limits tell instead of the true wait: 1, 0.5 or 250ms.")]
Scripts = Annotated[
    list[str] | None,
    typer.Option(help='How batches go: "nth=1,ending=expired,done=0.5" or "errors=0.2,status=429".'),
]


def simulate(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on; 0 takes a free one.")] = 8000,
    allow_remote: AllowRemote = False,
    latency: Annotated[str, typer.Option(help="200ms, 200ms..1s or lognormal:2.5s,0.5 (median and sigma).")] = "0",
    tokens: Annotated[str, typer.Option(help="Length of answers: 100, 20..200 or lognormal:150,0.6.")] = "16..64",
    answers: Annotated[str, typer.Option(help="words, or echo to get the question back.")] = "words",
    answers_from: Annotated[str | None, typer.Option(metavar="PROVIDER", help="A real provider that answers.")] = None,
    answers_option: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="An option of it.")] = None,
    model: Annotated[list[str] | None, typer.Option(help="A model there is; default: every name is one.")] = None,
    rpm: Annotated[float | None, typer.Option(help="Requests a minute, for each model.")] = None,
    tpm: Annotated[float | None, typer.Option(help="Tokens a minute, for each model.")] = None,
    max_in_flight: Annotated[int | None, typer.Option(help="Requests at a time, for each model.")] = None,
    limit_kind: Annotated[str, typer.Option(help="bucket, bucket-empty, second, minute or window.")] = "bucket",
    burst: Annotated[float, typer.Option(help="Seconds of quota that may be used at once.")] = 60.0,
    charging: Annotated[str, typer.Option(help="reserve keeps a call's token charge, settle corrects it.")] = "reserve",
    no_limit_headers: Annotated[bool, typer.Option("--no-limit-headers", help="Tell no limit in headers.")] = False,
    no_retry_after: Annotated[bool, typer.Option("--no-retry-after", help="Refuse without telling a wait.")] = False,
    retry_after: RetryAfter = None,
    fault: Annotated[list[str] | None, typer.Option(help='Such as "status=500,rate=0.1" or "reset,every=50".')] = None,
    batch: Scripts = None,
    enqueued_tokens: Annotated[int | None, typer.Option(help="Input tokens in batches, for each model.")] = None,
    seed: Annotated[int, typer.Option(help="Answers, latencies and faults follow from it.")] = 0,
    api_key: Annotated[str | None, typer.Option(help="The key to ask for, a made-up one; default: any.")] = None,
    speed: Annotated[float, typer.Option(help="How much faster batches run; 1000 makes 24 hours 86 seconds.")] = 1.0,
) -> None:
    """Serve a simulated OpenAI API on this machine. The first line on stdout is its base URL.

    \b
    Examples:
      promptmill simulate
      promptmill simulate --latency 200ms --rpm 500 --fault "status=500,rate=0.05"
      promptmill simulate --speed 1000 --batch "nth=1,ending=expired,done=0.5"
    """
    _check_host(host, allow_remote)
    provider = None if answers_from is None else {"use": answers_from, "options": _pairs(answers_option or [])}
    limits = {"rpm": rpm, "tpm": tpm, "kind": limit_kind, "burst": burst, "charging": charging}
    limits |= {"max_in_flight": max_in_flight}
    limits |= {"headers": not no_limit_headers, "retry_after": not no_retry_after, "fixed_wait": retry_after}
    values = {
        "host": host,
        "port": port,
        "seed": seed,
        "api_key": None if api_key is None else Secret(api_key),
        "models": tuple(model or ()),
        "latency": latency,
        "limits": limits,
        "faults": tuple(fault or ()),
        "scripts": tuple(batch or ()),
        "enqueued_tokens": enqueued_tokens,
        "answers": answers,
        "answer_tokens": tokens,
        "answers_from": provider,
        "speed": speed,
    }
    _serve(_validated(values))


def _check_host(host: str, allow_remote: bool) -> None:
    from promptmill_simulator.server import is_loopback

    if not allow_remote and not is_loopback(host):
        raise UsageError(
            f"{host!r} can be reached from other machines; the simulator listens on loopback only",
            hint="add --allow-remote if that is what you want",
        )


def _serve(options: SimulatorOptions) -> None:
    from promptmill_simulator.server import Simulator

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with Simulator(options) as simulator:
        sys.stdout.write(f"{simulator.base_url}\n")
        sys.stdout.flush()
        # A wait without end would keep Windows from handling Ctrl-C.
        while not stop.wait(0.5):
            pass


def _validated(values: dict[str, Any]) -> SimulatorOptions:
    from pydantic import ValidationError

    from promptmill_simulator.options import SimulatorOptions

    try:
        return SimulatorOptions.model_validate(values)
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, item['loc']))}: {_plain(item['msg'])}" for item in error.errors())
        raise UsageError("; ".join(problems)) from error


def _plain(message: str) -> str:
    return message.removeprefix("Value error, ")


def _pairs(texts: list[str]) -> dict[str, Any]:
    from promptmill import jsontext

    pairs: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(
                f"{text!r} is no KEY=VALUE", hint="write, for example, --answers-option model=smollm2-135m"
            )
        try:
            pairs[key] = jsontext.decode(value)
        except jsontext.BadJSON:
            pairs[key] = value
    return pairs


@hookimpl
def register_command(register: RegisterCommand) -> None:
    register("simulate", simulate)
