"""From a job file to a typed job, with every mistake named by line and column."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
from pydantic import BaseModel, ValidationError

from promptmill._config.document import Document, KeyPath
from promptmill._config.naming import run_name
from promptmill._config.outputs import input_that_takes_in, known_endings, sink_for
from promptmill._config.problems import problems_of
from promptmill._config.routes import HOW_ONLY, read_routes
from promptmill._config.secret_fields import named_literals, secret_paths, written_out
from promptmill._config.spec import TEMPLATE_KEYS, JobSpec, StopWhenSpec, TemplateSpec
from promptmill._registry import Registry
from promptmill._routing import Route
from promptmill._template import InputTemplate
from promptmill.errors import JobError, Location, PluginError, Problem
from promptmill.jsontext import JSON
from promptmill.options import (
    BuildContext,
    Options,
    ProviderOptions,
    RetryOptions,
    SinkOptions,
    SourceOptions,
)

_SUFFIXES: Final = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".csv": "csv", ".tsv": "csv"}
_COMPRESSED: Final = (".gz", ".zst")


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A job, checked: every name resolved, every option validated, nothing opened."""

    path: Path
    name: str
    source: SourceOptions
    template: InputTemplate
    providers: Mapping[str, ProviderOptions]
    routes: tuple[Route, ...]
    retry: RetryOptions
    sinks: tuple[SinkOptions, ...]
    order: Literal["completion", "input"]
    stop_when: StopWhenSpec | None
    budget_usd: float | None
    deadline_s: float | None
    dedupe: bool | None
    cache: Path | None
    workers: int

    places: Mapping[str, Location]
    """Where the templates stand in the job file, by their keys: ``prompt``, ``messages[0].content``, ..."""
    identity: JSON
    """What must be the same for a run to go on: everything that changes answers."""
    where_only: Mapping[str, frozenset[str]]
    """By provider: the members of its identity that only say where it is."""
    sink_names: tuple[str, ...]
    """A name for each sink that stays the same as long as its options do."""

    @property
    def base_dir(self) -> Path:
        return self.path.parent


def load_job(path: Path, registry: Registry) -> Job:
    """Read and check a job file.

    Raises:
        JobError: with every problem found, each with its place; also when a named component cannot be loaded.
    """
    document = Document.read(path)
    if not isinstance(document.data, dict):
        raise JobError(
            "the job file is not a mapping of keys to values" if document.data is not None else "the job file is empty",
            code="E0202",
            hint="`promptmill init` writes a job file to start from",
            location=document.locate(()),
        )
    return _Reader(document, registry).job()


class _Reader:
    def __init__(self, document: Document, registry: Registry) -> None:
        self._document = document
        self._registry = registry
        self._problems: list[Problem] = []

    def job(self) -> Job:
        spec = self._validate(JobSpec, (), self._document.data)
        if spec is None:
            raise self._errors()
        providers = {
            name: self._component("provider", ("providers", name), value) for name, value in spec.providers.items()
        }
        self._refuse_secrets(
            named_literals(spec.params, ("params",), references=False),
            "secrets do not belong into a request: name the key with the provider's api_key",
        )
        base_dir = self._document.path.parent
        context = BuildContext(name=run_name(self._document.path, spec.name), base_dir=base_dir)
        routes = read_routes(self._document, spec.routes, list(providers), self._registry, context, self._problems)
        source = self._source(spec.input)
        template = self._template(spec.input)
        compiled: Any = None if template is None else self._compiled(template, spec.params)
        retry = self._component("policy", ("retry",), spec.retry or {}, default="exponential")
        sinks = self._sinks(spec)
        self._refuse_one_target_twice(sinks)
        self._refuse_own_outputs(spec, source, sinks)
        if self._problems:
            raise self._errors()
        return Job(
            path=self._document.path,
            name=context.name,
            source=source,
            template=compiled,
            providers=providers,
            routes=routes,
            retry=retry,
            sinks=sinks,
            order=spec.order,
            stop_when=spec.stop_when,
            budget_usd=None if spec.budget is None else spec.budget.usd,
            deadline_s=spec.deadline,
            dedupe=spec.dedupe,
            cache=None if spec.cache is None else base_dir / spec.cache,
            workers=spec.workers,
            places=self._places(template),
            identity=_identity(spec, template, providers),
            where_only={name: options.where_only for name, options in providers.items()},
            sink_names=_sink_names(spec, sinks),
        )

    def _source(self, given: Mapping[str, Any]) -> Any:
        options = {key: value for key, value in given.items() if key not in TEMPLATE_KEYS}
        path = options.get("path")
        first = path[0] if isinstance(path, list) and path else path
        default = _source_for(first) if isinstance(first, str) else "jsonl"
        return self._component("source", ("input",), options, default=default, also_known=TEMPLATE_KEYS)

    def _template(self, given: Mapping[str, Any]) -> Any:
        template = self._validate(
            TemplateSpec, ("input",), {key: value for key, value in given.items() if key in TEMPLATE_KEYS}
        )
        if template and template.prompt is not None and template.messages is not None:
            where = self._document.locate(("input", "messages"), key=True)
            self._problems.append(Problem("E0207", "`prompt` and `messages` cannot both be given", where))
        return template

    def _compiled(self, template: TemplateSpec, params: Mapping[str, JSON]) -> Any:
        try:
            return InputTemplate(
                prompt=template.prompt,
                messages=[(one.role, one.content) for one in template.messages or ()],
                id=template.id,
                priority=template.priority,
                tags=template.tags,
                keep=template.keep,
                params=params,
            )
        except JobError as error:
            for problem in error.problems:
                where = self._document.locate(("input", *_key_path(problem.key or "")))
                self._problems.append(msgspec.structs.replace(problem, location=where))
            return None

    def _places(self, template: TemplateSpec) -> dict[str, Location]:
        keys = [name for name in ("prompt", "priority", "id", "keep") if getattr(template, name)]
        keys += [f"messages[{at}].content" for at in range(len(template.messages or ()))]
        keys += [f"tags[{at}]" for at in range(len(template.tags))]
        return {key: self._document.locate(("input", *_key_path(key))) for key in keys}

    def _sinks(self, spec: JobSpec) -> tuple[Any, ...]:
        if spec.output is not None and spec.sinks is not None:
            where = self._document.locate(("output",), key=True)
            hint = "`output: x.jsonl` is short for `sinks: [{use: jsonl, path: x.jsonl}]`"
            self._problems.append(Problem("E0207", "`output` and `sinks` cannot both be given", where, hint))
        if spec.output is not None:
            if (name := sink_for(spec.output)) is None:
                where = self._document.locate(("output",))
                message = f"no sink goes by the ending of {spec.output!r}"
                hint = f"known are {known_endings()}; for others name the sink: `sinks: [{{use: jsonl, path: ...}}]`"
                self._problems.append(Problem("E0206", message, where, hint))
                return ()
            return (self._component("sink", ("output",), {"path": spec.output}, default=name),)
        if spec.sinks is None:
            where = self._document.locate(())
            hint = "add `output: answers.jsonl`"
            self._problems.append(Problem("E0204", "nothing says where the results go", where, hint))
        return tuple(self._component("sink", ("sinks", at), value) for at, value in enumerate(spec.sinks or ()))

    def _refuse_one_target_twice(self, sinks: tuple[SinkOptions | None, ...]) -> None:
        """Two sinks that would write into each other, however their path is written."""
        seen: list[object] = []
        for at, sink in enumerate(sinks):
            if sink is None:
                continue
            target: object = sink
            if isinstance(path := getattr(sink, "path", None), str):
                target = ((self._document.path.parent / path).resolve(), getattr(sink, "table", None))
            if target in seen:
                where = self._document.locate(("sinks", at))
                self._problems.append(Problem("E0208", "two sinks are the same", where, "remove one of them"))
            seen.append(target)

    def _refuse_own_outputs(self, spec: JobSpec, source: SourceOptions | None, sinks: tuple[Any, ...]) -> None:
        """A run that reads what it writes, or would the next time."""
        inputs = getattr(source, "paths", ())
        base_dir = self._document.path.parent
        for at, sink in enumerate(sinks):
            path = getattr(sink, "path", None)
            if not isinstance(path, str):
                continue
            if (taken := input_that_takes_in(base_dir / path, inputs, base_dir)) is not None:
                where = self._document.locate(("output",) if spec.output is not None else ("sinks", at, "path"))
                is_input = "is the input itself" if taken == path else f"is one of the files of the input {taken!r}"
                hint = "write to another path, or into another directory"
                self._problems.append(Problem("E0211", f"the output {path!r} {is_input}", where, hint))

    def _component(
        self,
        kind: str,
        at: KeyPath,
        given: Mapping[str, Any],
        default: str | None = None,
        also_known: frozenset[str] = frozenset(),
    ) -> Any:
        """Validate ``given`` with the options class that its key ``use`` names."""
        options = dict(given)
        name = options.pop("use", default)
        if not isinstance(name, str):
            where = self._document.locate(at)
            hint = f"installed: {', '.join(self._registry.names(kind)) or 'none'}"
            self._problems.append(Problem("E0204", f"the {kind} has no `use: name`", where, hint))
            return None
        try:
            model: type[Options[Any]] = self._registry.get(kind, name)
        except PluginError as error:
            where = self._document.locate((*at, "use"))
            self._problems.append(Problem(error.code, error.message, where, error.hint))
            return None
        for path in secret_paths(model, options, at):
            self._document.hide(path)
        given_literals = list(written_out(model, options, at))
        pool = options.get("pool")
        for number, own in enumerate(pool if isinstance(pool, list) else ()):
            if isinstance(own, dict):
                for path in secret_paths(model, own, (*at, "pool", number)):
                    self._document.hide(path)
                given_literals += written_out(model, own, (*at, "pool", number))
        checked = self._validate(model, at, options, also_known={*also_known, "use"})
        if checked is not None:
            self._refuse_secrets(given_literals, "a secret is a reference, never itself: write env:NAME or file:path")
        return checked

    def _refuse_secrets(self, paths: Iterable[KeyPath], why: str) -> None:
        for path in paths:
            name = ".".join(map(str, path))
            self._problems.append(Problem("E0205", f"{name}: {why}", self._document.locate(path)))

    def _validate(
        self, model: type[BaseModel], at: KeyPath, value: object, also_known: frozenset[str] | set[str] = frozenset()
    ) -> Any:
        try:
            return model.model_validate(value)
        except ValidationError as error:
            self._problems += problems_of(error, self._document, at, model, also_known)
            return None

    def _errors(self) -> JobError:
        count = len(self._problems)
        message = self._problems[0].message if count == 1 else f"{count} problems in {str(self._document.path)!r}"
        return JobError(message, problems=tuple(self._problems))


def _without_how(routes: list[dict[str, Any]] | None) -> JSON:
    """The routes as they decide about answers: a run can go on when its budgets and deadlines change."""
    if routes is None:
        return None
    return [{key: value for key, value in route.items() if key not in HOW_ONLY} for route in routes]


def _identity(spec: JobSpec, template: Any, providers: Mapping[str, ProviderOptions]) -> dict[str, Any]:
    """What makes it the same job when it is run again."""
    return {
        "input": template.model_dump(mode="json", exclude={"keep"}, exclude_defaults=True),
        "params": spec.params,
        "providers": {
            name: {"use": spec.providers[name].get("use"), **options.identity()} for name, options in providers.items()
        },
        "routes": _without_how(spec.routes),
    }


def _sink_names(spec: JobSpec, sinks: tuple[SinkOptions, ...]) -> tuple[str, ...]:
    """Such as ``jsonl(path=answers.jsonl)``."""
    kinds = (
        [sink_for(spec.output) or ""] if spec.output is not None else [str(one.get("use")) for one in spec.sinks or ()]
    )
    names = []
    for kind, sink in zip(kinds, sinks, strict=True):
        options = ", ".join(f"{key}={value}" for key, value in sorted(sink.identity().items()))
        names.append(f"{kind}({options})")
    return tuple(names)


def _key_path(key: str) -> KeyPath:
    """``messages[1].content`` as the path it is."""
    return tuple(int(part) if part.isdigit() else part for part in re.findall(r"\w+", key))


def _source_for(path: str) -> str:
    name = path.lower()
    for suffix in _COMPRESSED:
        name = name.removesuffix(suffix)
    return _SUFFIXES.get(Path(name).suffix, "jsonl")
