-- The queue of `crates/queue`. A lane is a queue by itself, a stream is what one lane has of one priority. What is in a message,
-- and what a lane stands for, is not known here. Why it looks like this: docs/adr/0060-a-queue-of-our-own.md.

-- Identifiers of messages, as callers see them.
create sequence queue_ids;
-- The order in which messages became ready, and the token of a lease: whoever leases gives the message a new one.
create sequence queue_positions cache 1;

create table queue_messages (
    lane text not null,
    id bigint not null,
    priority smallint not null,
    -- 0 ready, 1 waiting (for `visible_at`), 2 leased (until `visible_at`).
    state smallint not null,
    position bigint not null,
    visible_at timestamptz not null,
    -- How often it was leased, releases that do not count left out.
    read_count integer not null,
    enqueued_at timestamptz not null,
    -- Something to find unfinished messages by.
    tag text,
    body text not null,
    -- Why the last attempt did not do.
    note text,
    primary key (lane, id)
) with (
    -- Rows live for seconds: vacuum by their number, never by their share, and without pauses.
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 20000,
    autovacuum_vacuum_insert_scale_factor = 0,
    autovacuum_vacuum_insert_threshold = 200000,
    autovacuum_analyze_scale_factor = 0,
    autovacuum_analyze_threshold = 100000,
    autovacuum_vacuum_cost_delay = 0
);
-- Each version of a row is in one of these two.
create index queue_ready on queue_messages (lane, priority, position) where state = 0;
create index queue_sleeping on queue_messages (visible_at) where state <> 0;
create index queue_tagged on queue_messages (lane, tag) where tag is not null;

-- What is over: written once, read by id, removed by age.
create table queue_archive (
    lane text not null,
    id bigint not null,
    outcome text not null check (outcome in ('completed', 'dead', 'cancelled')),
    priority smallint not null,
    read_count integer not null,
    enqueued_at timestamptz not null,
    ended_at timestamptz not null,
    tag text,
    body text not null,
    note text,
    result text,
    primary key (lane, id)
);
create index queue_archive_age on queue_archive using brin (ended_at);
create index queue_dead on queue_archive (lane, id) where outcome = 'dead';

-- What a sender's key was used for.
create table queue_keys (
    lane text not null,
    key text not null,
    -- Digest of what was sent: the same key with something else is a mistake.
    digest bytea not null,
    id bigint not null,
    created_at timestamptz not null,
    primary key (lane, key)
);
create index queue_keys_age on queue_keys (created_at);
