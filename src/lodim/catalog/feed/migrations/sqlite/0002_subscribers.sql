-- Who receives the digest, the links in the mails, letters about the subscription itself, and who is never written to.

CREATE TABLE subscriber (
    id INTEGER PRIMARY KEY AUTOINCREMENT,   -- never given twice: mails are numbered by it
    email TEXT NOT NULL UNIQUE,             -- as typed, the domain in lower-case ASCII
    folded TEXT NOT NULL,                   -- without regard to case: limits are counted by it
    state TEXT NOT NULL CHECK (state IN ('pending', 'confirmed', 'cancelled', 'suppressed')),
    frequency TEXT NOT NULL CHECK (frequency IN ('daily', 'weekly')),
    areas TEXT NOT NULL,                    -- JSON list; empty: all
    time_zone TEXT NOT NULL,
    salt TEXT NOT NULL UNIQUE,              -- of the unsubscribe link
    soft_strikes INTEGER NOT NULL DEFAULT 0,
    created_at TEXT NOT NULL,
    requested_at TEXT NOT NULL,             -- last time the form was sent
    confirmed_at TEXT,                      -- the consent: when, through what, to which text
    consent_source TEXT,
    consent_text TEXT,
    cancelled_at TEXT
) STRICT;
CREATE INDEX subscriber_folded ON subscriber (folded);
CREATE INDEX subscriber_state ON subscriber (state, id);

CREATE TABLE token (
    digest TEXT PRIMARY KEY,                -- SHA-256 of what is in the link
    subscriber_id INTEGER NOT NULL REFERENCES subscriber (id) ON DELETE CASCADE,
    purpose TEXT NOT NULL CHECK (purpose IN ('confirm', 'unsubscribe')),
    wanted TEXT,                            -- JSON: what confirming it subscribes to
    created_at TEXT NOT NULL,
    expires_at TEXT,                        -- NULL: never, or its letter has not been written yet
    used_at TEXT,
    revoked_at TEXT
) STRICT;
CREATE INDEX token_subscriber ON token (subscriber_id, purpose);

CREATE TABLE saved_query (
    subscriber_id INTEGER PRIMARY KEY REFERENCES subscriber (id) ON DELETE CASCADE,
    text TEXT NOT NULL,
    created_at TEXT NOT NULL
) STRICT;

CREATE TABLE outgoing (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    subscriber_id INTEGER NOT NULL REFERENCES subscriber (id) ON DELETE CASCADE,
    kind TEXT NOT NULL CHECK (kind IN ('confirm', 'already')),
    state TEXT NOT NULL CHECK (state IN ('queued', 'sent', 'failed', 'dropped')),
    seed TEXT,                              -- of the token, until the letter is sent
    digest TEXT NOT NULL UNIQUE,            -- of the token
    queued_at TEXT NOT NULL,
    due_at TEXT NOT NULL,                   -- while somebody is sending it: when that lease ends
    attempts INTEGER NOT NULL
) STRICT;
CREATE INDEX outgoing_due ON outgoing (state, due_at);
CREATE INDEX outgoing_subscriber ON outgoing (subscriber_id, queued_at);

CREATE TABLE suppression (
    digest TEXT PRIMARY KEY,                -- salted hash of the address; the address itself is nowhere
    reason TEXT NOT NULL CHECK (reason IN ('erased', 'bounced', 'asked')),
    created_at TEXT NOT NULL
) STRICT;
