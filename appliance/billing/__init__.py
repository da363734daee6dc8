"""Money: the ledger, prices and charges, and the operator's own Stripe account."""
