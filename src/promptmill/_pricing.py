"""What a call costs: by the prices the job gives, else by the price table, which is loaded when it is first asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from importlib.metadata import version
from typing import Final

import msgspec

from promptmill.clock import Clock
from promptmill.interfaces import Provider
from promptmill.models import Tier, Usage
from promptmill.options import BuildContext, Price, ProviderOptions

QUARTER_HOUR: Final = 900.0
"""Seconds. Prices may depend on the date and the time of day; in the table they change at quarter hours (UTC)."""

MOST_MODELS: Final = 1000
"""Prices kept at once: models are named by replies, and there is no end to what a server may say."""

_CONTEXTS: Final[Mapping[Tier, Mapping[str, str]]] = {
    "realtime": {},
    "flex": {"service_tier": "flex"},
    "batch": {"processing": "batch"},
}
"""How the table is asked for a tier. Source: genai-prices 0.2.3."""

_MILLION: Final = 1_000_000


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """USD a million tokens, and ``request`` USD a million requests, for requests with more than ``above`` input tokens.

    ``output`` is None when the table has no price for output at all, as with embeddings.
    """

    input: float
    cached_input: float
    output: float | None
    reasoning: float
    request: float = 0.0
    above: int = 0

    def cost(self, usage: Usage) -> float | None:
        """USD of one request whose input and output tokens are known; None when it has output that has no price.

        Cached and reasoning tokens that were not reported are taken for plain ones.
        """
        input_tokens, output_tokens = usage.input_tokens or 0, usage.output_tokens or 0
        millionths = input_tokens * self.input + self.request
        if usage.cached_tokens:
            millionths += min(usage.cached_tokens, input_tokens) * (self.cached_input - self.input)
        if output_tokens:
            if self.output is None:
                return None
            millionths += output_tokens * self.output
            if usage.reasoning_tokens and self.reasoning != self.output:
                millionths += min(usage.reasoning_tokens, output_tokens) * (self.reasoning - self.output)
        return round(millionths / _MILLION, 12)

    def reduced(self, discount: float) -> Rates:
        """The rates less ``discount`` (0 to 1)."""
        rest = 1 - discount
        return Rates(
            input=self.input * rest,
            cached_input=self.cached_input * rest,
            output=None if self.output is None else self.output * rest,
            reasoning=self.reasoning * rest,
            request=self.request * rest,
            above=self.above,
        )


Bands = tuple[Rates, ...]
"""Rates by the size of the input, smallest first; the first holds for every size."""


class Edition(msgspec.Struct, frozen=True):
    """Which price table it is; ``newest`` is the date of the newest price in it that is in force."""

    version: str
    newest: str


class PriceTable:
    """The prices that come with the library ``genai-prices``. Nothing is downloaded, ever."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def bands(self, vendor: str, model: str, tier: Tier) -> Bands | None:
        """The prices of a model now; None when the table does not know it.

        A tier the table has no prices of its own for has those of realtime.
        """
        from genai_prices import Usage as Tokens
        from genai_prices import calc_price
        from genai_prices.types import TieredPrices

        at = self._now()

        def ask(**tokens: int) -> Decimal:
            return calc_price(
                Tokens(**tokens),
                model,
                provider_id=vendor,
                genai_request_timestamp=at,
                price_context=_CONTEXTS[tier],
            ).total_price

        try:
            found = calc_price(
                Tokens(), model, provider_id=vendor, genai_request_timestamp=at, price_context=_CONTEXTS[tier]
            ).model_price
        except LookupError:
            return None
        if found.input_mtok is None:  # priced by the minute, the page or the picture
            return None
        tiered = [price for price in vars(found).values() if isinstance(price, TieredPrices)]
        starts = sorted({step.start for price in tiered for step in price.tiers})
        return tuple(_rates(ask, above, has_output=found.output_mtok is not None) for above in (0, *starts))

    def edition(self) -> Edition:
        """Which table it is."""
        from genai_prices.data_snapshot import get_snapshot
        from genai_prices.types import ConditionalPrice, PriceVariant

        entries: list[ConditionalPrice | PriceVariant] = []
        for provider in get_snapshot().providers:
            for model in provider.models:
                entries += model.prices if isinstance(model.prices, list) else ()
                entries += model.price_variants or ()
        starts = (getattr(entry.constraint, "start_date", None) for entry in entries)
        today = self._now().date()
        newest = max(start for start in starts if isinstance(start, date) and start <= today)
        return Edition(version("genai-prices"), newest.isoformat())

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self.clock.wall(), UTC)


def _rates(ask: Callable[..., Decimal], above: int, *, has_output: bool) -> Rates:
    """Find the rates of one band by asking for the price of requests that have just one kind of tokens more.

    In the table a size of the input has its rates for all tokens of the request, so prices are linear in a band.
    """
    count = above + 1
    fee = ask(input_tokens=0)
    plain = ask(input_tokens=count)

    def rate(price: Decimal, without: Decimal) -> float:
        return float((price - without) * _MILLION / count)

    output = rate(ask(input_tokens=count, output_tokens=count), plain)
    reasoning = rate(ask(input_tokens=count, output_tokens=count, output_reasoning_tokens=count), plain)
    return Rates(
        input=rate(plain, fee),
        cached_input=rate(ask(input_tokens=count, cache_read_tokens=count), fee),
        output=output if has_output else None,
        reasoning=reasoning,
        request=float(fee * _MILLION),
        above=above,
    )


class Tariff:
    """What the calls of one provider cost. What the job says (``given``) wins over the provider and the table."""

    def __init__(self, provider: Provider, given: Price | None, table: PriceTable) -> None:
        self._model = provider.model
        self._given = given or Price()
        self._table = table
        self._clock = table.clock
        self._own = _own_bands(self._given)
        self._vendor = None if self._own else self._given.vendor or (None if provider.free else provider.price_vendor)
        # What the job says costs nothing does so also where no tokens are reported.
        paid = (self._given.input, self._given.output, self._given.cached_input)
        self._free = not any(paid) if self._own else provider.free and self._vendor is None
        self._known: dict[tuple[str | None, Tier], Bands | None] = {}
        self._until = 0.0

    @property
    def uses_table(self) -> bool:
        """Whether its prices are those of the price table."""
        return self._vendor is not None

    def load(self) -> None:
        """Look up the usual model. Loading the table blocks for a second: call it in a thread, before it matters."""
        if self.uses_table:
            self._bands(self._model, "realtime")

    def cost(self, usage: Usage, model: str | None, tier: Tier) -> float | None:
        """USD for ``usage`` of ``model``; None when the usage or the price in this tier is not known."""
        if self._free:
            return 0.0
        input_tokens = usage.input_tokens
        if input_tokens is None or usage.output_tokens is None:
            return None
        bands = self._bands(model, tier)
        if bands is None:
            return None
        rates = bands[0]
        if len(bands) > 1:
            rates = next(band for band in reversed(bands) if input_tokens > band.above or band is rates)
        return rates.cost(usage)

    def _bands(self, model: str | None, tier: Tier) -> Bands | None:
        if self._clock.wall() >= self._until or len(self._known) > MOST_MODELS:
            now = self._clock.wall()
            self._known.clear()
            self._until = now - now % QUARTER_HOUR + QUARTER_HOUR
        key = (model, tier)
        try:
            return self._known[key]
        except KeyError:
            return self._known.setdefault(key, self._find(model, tier))

    def _find(self, model: str | None, tier: Tier) -> Bands | None:
        realtime = self._own or self._listed(model, "realtime")
        if tier == "realtime" or realtime is None:
            return realtime
        discount = self._given.batch_discount if tier == "batch" else self._given.flex_discount
        if discount is not None:
            return tuple(rates.reduced(discount) for rates in realtime)
        listed = self._listed(model, tier)
        # The table answers with the realtime price where it knows no other.
        return None if listed == realtime else listed

    def _listed(self, model: str | None, tier: Tier) -> Bands | None:
        return None if self._vendor is None or model is None else self._table.bands(self._vendor, model, tier)


def _own_bands(given: Price) -> Bands | None:
    if given.input is None or given.output is None:
        return None
    cached = given.input if given.cached_input is None else given.cached_input
    return (Rates(input=given.input, cached_input=cached, output=given.output, reasoning=given.output),)


def tariffs(providers: Mapping[str, ProviderOptions], context: BuildContext) -> dict[str, Tariff]:
    """The tariff of each provider of a job, by name. Opens nothing and needs no key."""
    table = PriceTable(context.clock)
    built = planned(providers, context)
    return {name: Tariff(built[name], options.price, table) for name, options in providers.items()}


def planned(providers: Mapping[str, ProviderOptions], context: BuildContext) -> dict[str, Provider]:
    """Providers to be asked for estimates and prices, never to be opened."""
    return {
        name: options.build(msgspec.structs.replace(context, name=name, planning=True))
        for name, options in providers.items()
    }
