-- What we know of the operator's Stripe account. Stripe's objects are the truth; these rows say whose they are, what was
-- made of them, and how far we have read. is_live tells the two halves of an account apart: test ids mean nothing there.

-- Who we are to Stripe, made once: several boxes may share one account.
CREATE TABLE appliance (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    id TEXT NOT NULL
) STRICT;

CREATE TABLE stripe_customer (
    id TEXT PRIMARY KEY,  -- cus_…
    org_id TEXT NOT NULL REFERENCES organisation (id),
    is_live INTEGER NOT NULL,
    default_card TEXT,
    cards_read_at INTEGER NOT NULL DEFAULT 0,
    deleted_at INTEGER,  -- at Stripe: the next payment makes another one
    created_at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX stripe_customer_of_org ON stripe_customer (org_id, is_live) WHERE deleted_at IS NULL;

-- A card as we may show it; its number never comes here.
CREATE TABLE payment_method (
    id TEXT PRIMARY KEY,  -- pm_…
    org_id TEXT NOT NULL REFERENCES organisation (id),
    customer_id TEXT NOT NULL REFERENCES stripe_customer (id),
    brand TEXT NOT NULL,
    last4 TEXT NOT NULL,
    exp_month INTEGER NOT NULL,
    exp_year INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX payment_method_of_customer ON payment_method (customer_id);

-- What somebody meant to pay. Written before Stripe is asked, so that nothing paid is ever without a row.
CREATE TABLE topup_intent (
    id TEXT PRIMARY KEY,
    org_id TEXT NOT NULL REFERENCES organisation (id),
    customer_id TEXT NOT NULL REFERENCES stripe_customer (id),
    mode TEXT NOT NULL CHECK (mode IN ('payment', 'setup', 'auto')),
    amount_micros INTEGER NOT NULL CHECK (amount_micros >= 0),  -- what is credited, whatever tax and currency did; setup: 0
    status TEXT NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'succeeded', 'failed', 'expired', 'cancelled')),
    session_id TEXT UNIQUE,  -- cs_…
    payment_intent_id TEXT UNIQUE,  -- pi_…, the one that succeeded
    looked_at INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    closed_at INTEGER
) STRICT;
CREATE INDEX topup_intent_pending ON topup_intent (created_at) WHERE status = 'pending';
CREATE INDEX topup_intent_of_org ON topup_intent (org_id, created_at DESC);

-- Money that went back, by refund or by dispute. debit_micros is what the ledger took for it, net.
CREATE TABLE stripe_reversal (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('refund', 'dispute')),
    topup_id TEXT NOT NULL REFERENCES topup_intent (id),
    status TEXT NOT NULL,
    debit_micros INTEGER NOT NULL CHECK (debit_micros >= 0),
    rounds INTEGER NOT NULL DEFAULT 0,  -- how often it was taken: a dispute may be won and opened again
    updated_at INTEGER NOT NULL
) STRICT;
CREATE INDEX stripe_reversal_of_topup ON stripe_reversal (topup_id);

CREATE TABLE auto_topup (
    org_id TEXT PRIMARY KEY REFERENCES organisation (id),
    enabled INTEGER NOT NULL DEFAULT 0,
    threshold_micros INTEGER,
    amount_micros INTEGER,
    payment_method_id TEXT,
    disabled_reason TEXT CHECK (disabled_reason IN ('payment_method_detached', 'card_declined', 'authentication_required',
        'payment_method_expired', 'max_failures_reached', 'admin_disabled')),
    updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX auto_topup_enabled ON auto_topup (org_id) WHERE enabled = 1;

-- One try to charge a saved card. Open: Stripe was asked, and what it did is not known yet.
CREATE TABLE auto_topup_attempt (
    id INTEGER PRIMARY KEY,
    topup_id TEXT NOT NULL REFERENCES topup_intent (id),
    org_id TEXT NOT NULL REFERENCES organisation (id),
    number INTEGER NOT NULL,
    payment_method_id TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'processing', 'succeeded', 'declined', 'abandoned')),
    code TEXT,  -- why it was declined
    created_at INTEGER NOT NULL,
    asked_at INTEGER NOT NULL,
    closed_at INTEGER,
    UNIQUE (topup_id, number)
) STRICT;
CREATE UNIQUE INDEX auto_topup_attempt_open ON auto_topup_attempt (org_id) WHERE state IN ('open', 'processing');
CREATE INDEX auto_topup_attempt_of_org ON auto_topup_attempt (org_id, created_at);

CREATE TABLE subscription (
    id TEXT PRIMARY KEY,  -- sub_…
    org_id TEXT NOT NULL REFERENCES organisation (id),
    customer_id TEXT NOT NULL REFERENCES stripe_customer (id),
    price_id TEXT NOT NULL,
    status TEXT NOT NULL,
    cancel_at_period_end INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;
CREATE INDEX subscription_of_org ON subscription (org_id);

-- How far the events were read.
CREATE TABLE stripe_sync (
    is_live INTEGER PRIMARY KEY,
    cursor TEXT,  -- evt_…
    cursor_at INTEGER NOT NULL,  -- when that event was made
    looked_back_at INTEGER NOT NULL,
    reconciled_at INTEGER,
    last_ok_at INTEGER,
    last_error TEXT,
    last_error_at INTEGER
) STRICT;

-- Events that were acted on: Stripe may show one twice. Purged after 35 days, when Stripe has long forgotten them.
CREATE TABLE stripe_event (
    id TEXT PRIMARY KEY,
    seen_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX stripe_event_seen ON stripe_event (seen_at);

-- What a person has to look at.
CREATE TABLE alert (
    id INTEGER PRIMARY KEY,
    org_id TEXT REFERENCES organisation (id),
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    message TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    resolved_at INTEGER,
    UNIQUE (kind, subject)
) STRICT;
CREATE INDEX alert_open ON alert (created_at) WHERE resolved_at IS NULL;
