"""Who makes the calls of a run.

A run has one pacer for each key, one purse, one journal and one owner of its batches: those of the process that
coordinates it. What takes the time of a processor is to make the calls, so that is what others can do.
"""

from __future__ import annotations

from typing import Protocol

from promptmill.errors import RunStopped
from promptmill.interfaces import Opened, RealtimeProvider
from promptmill.options import BuildContext, ProviderOptions


class Reporting(Protocol):
    """What a run is to those who make its calls."""

    def warn(self, message: str) -> None: ...

    def stop(self, reason: RunStopped) -> None: ...


class Coordinator(Opened):
    """Says where the calls to a provider are made: in this process. Those who make them elsewhere override it."""

    def placed(
        self,
        provider: RealtimeProvider,
        options: ProviderOptions | None,  # noqa: ARG002
        context: BuildContext,  # noqa: ARG002
    ) -> RealtimeProvider:
        """A provider that makes the calls of ``provider`` where they are to be made. Called before it is opened.

        ``options`` are those it was built from in ``context``; None when it was given as an object.
        """
        return provider

    def report_to(self, run: Reporting | None) -> None:
        """Tell ``run`` of what goes wrong from now on; None: there is none at present."""
