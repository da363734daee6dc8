"""Which parameters Stripe takes, by stripe-python's own typed params: they are generated from Stripe's OpenAPI."""

import functools
import typing
from typing import Any, get_args, get_origin

from stripe import params
from stripe._request_options import RequestOptions
from stripe.params import billing_portal, checkout

ROUTES: list[tuple[str, str, Any]] = [
    ("POST", "/v1/customers", params.CustomerCreateParams),
    ("GET", "/v1/customers/*", params.CustomerRetrieveParams),
    ("GET", "/v1/payment_methods", params.PaymentMethodListParams),
    ("POST", "/v1/payment_methods/*/detach", params.PaymentMethodDetachParams),
    ("POST", "/v1/checkout/sessions", checkout.SessionCreateParams),
    ("GET", "/v1/checkout/sessions", checkout.SessionListParams),
    ("GET", "/v1/checkout/sessions/*", checkout.SessionRetrieveParams),
    ("POST", "/v1/billing_portal/sessions", billing_portal.SessionCreateParams),
    ("POST", "/v1/payment_intents", params.PaymentIntentCreateParams),
    ("GET", "/v1/payment_intents", params.PaymentIntentListParams),
    ("GET", "/v1/payment_intents/*", params.PaymentIntentRetrieveParams),
    ("POST", "/v1/payment_intents/*/cancel", params.PaymentIntentCancelParams),
    ("GET", "/v1/charges", params.ChargeListParams),
    ("GET", "/v1/refunds", params.RefundListParams),
    ("GET", "/v1/disputes", params.DisputeListParams),
    ("GET", "/v1/disputes/*", params.DisputeRetrieveParams),
    ("GET", "/v1/subscriptions", params.SubscriptionListParams),
    ("GET", "/v1/subscriptions/*", params.SubscriptionRetrieveParams),
    ("GET", "/v1/events", params.EventListParams),
]
"""Everything that the fake answers. `*` is an id."""

_NOT_SENT = frozenset(RequestOptions.__annotations__)
_ELSEWHERE = {"StripeContext": Any, "UntypedStripeObject": dict, "Mapping": typing.Mapping}
"""Names that stand in annotations and are not to be had where those are evaluated."""


def route(method: str, path: str) -> Any:
    """The typed params of a request, None when the fake has no such route."""
    parts = path.split("/")
    for known_method, pattern, kind in ROUTES:
        wanted = pattern.split("/")
        fits = len(parts) == len(wanted) and all(map(lambda want, part: want in ("*", part), wanted, parts))
        if method == known_method and fits:
            return kind
    return None


def unknown(given: Any, kind: Any, at: str = "") -> list[str]:
    """Names in `given` that the typed params lack, as Stripe would write them: a[b][c]."""
    if isinstance(given, list):
        inner = [arg for kind in _kinds(kind) if get_origin(kind) is list for arg in get_args(kind)]
        return [name for i, one in enumerate(given) for name in unknown(one, _union(inner), f"{at}[{i}]")]
    if not isinstance(given, dict):
        return []
    kinds = _kinds(kind)
    typed = [one for one in kinds if hasattr(one, "__total__")]  # typed dicts: typing_extensions', which typing denies
    if not typed:
        is_free = any(one is dict or get_origin(one) is dict for one in kinds)
        return [] if is_free else [at or "?"]
    found: list[str] = []
    for name, value in given.items():
        here = f"{at}[{name}]" if at else name
        hints = [members(one)[name] for one in typed if name in members(one)]
        found += unknown(value, _union(hints), here) if hints else [here]
    return found


@functools.cache
def members(kind: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(kind, localns=_ELSEWHERE)
    return {name: hint for name, hint in hints.items() if name not in _NOT_SENT}


def _union(kinds: list[Any]) -> Any:
    return typing.Union[tuple(kinds)] if kinds else Any  # noqa: UP007  # made of values


def _kinds(kind: Any) -> list[Any]:
    """The members of a union, without NotRequired and the like around them."""
    origin = get_origin(kind)
    if origin in (typing.NotRequired, typing.Required, typing.Annotated):
        return _kinds(get_args(kind)[0])
    if origin is typing.Union or str(origin) == "<class 'types.UnionType'>":
        return [one for arg in get_args(kind) for one in _kinds(arg)]
    return [kind]
