-- Papers, what each source said about them, signals over time, and the full-text index.

CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

CREATE TABLE paper (
    id INTEGER PRIMARY KEY,
    arxiv_id TEXT UNIQUE,
    doi TEXT,
    title_key TEXT NOT NULL,
    author_key TEXT NOT NULL,
    year INTEGER,
    title TEXT NOT NULL,
    abstract TEXT NOT NULL,
    words TEXT NOT NULL,          -- authors and tags, for the full-text index
    url TEXT,
    venue TEXT,
    kind TEXT NOT NULL,
    source TEXT NOT NULL,         -- whose record the text is
    version INTEGER,
    published_at TEXT,
    precision TEXT NOT NULL CHECK (precision IN ('time', 'day', 'month', 'year')),
    updated_at TEXT,
    listed_at TEXT NOT NULL,      -- published_at, else first_seen_at: the order of "new"
    first_seen_at TEXT NOT NULL,
    changed_at TEXT NOT NULL
) STRICT;
CREATE INDEX paper_doi ON paper (doi) WHERE doi IS NOT NULL;
CREATE INDEX paper_title ON paper (title_key);
CREATE INDEX paper_listed ON paper (listed_at, id);

CREATE TABLE paper_version (
    id INTEGER PRIMARY KEY,
    paper_id INTEGER NOT NULL REFERENCES paper (id) ON DELETE CASCADE,
    digest TEXT NOT NULL UNIQUE,
    source TEXT NOT NULL,
    version INTEGER,
    title TEXT NOT NULL,
    abstract TEXT NOT NULL,
    authors TEXT NOT NULL,        -- JSON list
    updated_at TEXT,
    recorded_at TEXT NOT NULL
) STRICT;
CREATE INDEX paper_version_paper ON paper_version (paper_id, id);

CREATE TABLE author (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE paper_author (
    paper_id INTEGER NOT NULL REFERENCES paper (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    author_id INTEGER NOT NULL REFERENCES author (id),
    PRIMARY KEY (paper_id, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX paper_author_author ON paper_author (author_id);

CREATE TABLE tag (
    paper_id INTEGER NOT NULL REFERENCES paper (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    PRIMARY KEY (paper_id, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX tag_name ON tag (name, paper_id);

CREATE TABLE signal (
    paper_id INTEGER NOT NULL REFERENCES paper (id) ON DELETE CASCADE,
    source TEXT NOT NULL,
    kind TEXT NOT NULL,
    observed_at TEXT NOT NULL,
    value REAL NOT NULL,
    PRIMARY KEY (paper_id, source, kind, observed_at)
) STRICT, WITHOUT ROWID;
CREATE INDEX signal_time ON signal (kind, observed_at);

CREATE TABLE embedding (
    paper_id INTEGER NOT NULL REFERENCES paper (id) ON DELETE CASCADE,
    model TEXT NOT NULL,
    digest TEXT NOT NULL,         -- of the model's name and the text
    vector BLOB NOT NULL,         -- float32, little-endian, of length one, and its CRC-32
    PRIMARY KEY (paper_id, model)
) STRICT;

CREATE VIRTUAL TABLE paper_fts USING fts5(
    title, abstract, words,
    content = 'paper', content_rowid = 'id',
    tokenize = 'porter unicode61 remove_diacritics 2'
);
CREATE TRIGGER paper_fts_insert AFTER INSERT ON paper BEGIN
    INSERT INTO paper_fts (rowid, title, abstract, words) VALUES (new.id, new.title, new.abstract, new.words);
END;
CREATE TRIGGER paper_fts_delete AFTER DELETE ON paper BEGIN
    INSERT INTO paper_fts (paper_fts, rowid, title, abstract, words)
    VALUES ('delete', old.id, old.title, old.abstract, old.words);
END;
CREATE TRIGGER paper_fts_update AFTER UPDATE OF title, abstract, words ON paper BEGIN
    INSERT INTO paper_fts (paper_fts, rowid, title, abstract, words)
    VALUES ('delete', old.id, old.title, old.abstract, old.words);
    INSERT INTO paper_fts (rowid, title, abstract, words) VALUES (new.id, new.title, new.abstract, new.words);
END;
