-- Mails of the digest: what each says, how far it got, which papers were sent to whom, who is sending, and the states
-- of methods that were told.

CREATE TABLE delivery (
    id INTEGER PRIMARY KEY,
    subscriber_id INTEGER NOT NULL REFERENCES subscriber (id) ON DELETE CASCADE,
    period_key TEXT NOT NULL,               -- local date or ISO week, see lodim.catalog.digest.schedule
    state TEXT NOT NULL CHECK (state IN ('empty', 'queued', 'sending', 'retry', 'sent', 'failed')),
    until TEXT NOT NULL,                    -- the news up to then are in it
    papers TEXT NOT NULL,                   -- JSON list of numbers
    content TEXT,                           -- JSON: the mail's texts, until it is sent or given up
    attempts INTEGER NOT NULL,
    next_at TEXT NOT NULL,                  -- not before; while it is being sent: the end of the lease
    owner TEXT,                             -- who is sending it
    said TEXT,                              -- last answer of the mail server, without addresses
    queued_at TEXT NOT NULL,
    ended_at TEXT,
    UNIQUE (subscriber_id, period_key)
) STRICT;
CREATE UNIQUE INDEX delivery_open ON delivery (subscriber_id) WHERE state IN ('queued', 'sending', 'retry');
CREATE INDEX delivery_due ON delivery (state, next_at);

CREATE TABLE sent_item (
    subscriber_id INTEGER NOT NULL REFERENCES subscriber (id) ON DELETE CASCADE,
    paper_id INTEGER NOT NULL REFERENCES paper (id) ON DELETE CASCADE,
    sent_at TEXT NOT NULL,
    PRIMARY KEY (subscriber_id, paper_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX sent_item_paper ON sent_item (paper_id);

CREATE TABLE job_lease (
    name TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    until TEXT NOT NULL
) STRICT;

CREATE TABLE method_state (
    id INTEGER PRIMARY KEY,
    slug TEXT NOT NULL,
    status TEXT NOT NULL,
    evidence TEXT NOT NULL,
    noted_at TEXT NOT NULL
) STRICT;
CREATE INDEX method_state_slug ON method_state (slug, id);
