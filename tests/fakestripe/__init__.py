"""A Stripe of our own on the loopback: real HTTP, Stripe's semantics as far as we use them, a clock that a test turns.

`account` is the state and what happens in it, `server` the wire, `known` what stripe-python says of parameters.
"""

from tests.fakestripe.account import Account
from tests.fakestripe.server import serving

__all__ = ["Account", "serving"]
