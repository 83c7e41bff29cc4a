-- What integrations ask their vendors for by the clock: a row for each sync or trigger of a manifest at each connection (or at none, where
-- the integration's own configuration is used). While it is there, one message in the queue stands for it and says when its turn comes.
create table polls (
    id uuid primary key,
    tenant_id text not null references tenants (id) on delete cascade,
    app_id text not null references apps (id) on delete cascade,
    kind text not null check (kind in ('sync', 'trigger')),
    name text not null,
    connection_id uuid references connections (id) on delete cascade,
    -- As whom it asks. It stays when they are deleted: then it stops, and says so.
    user_id uuid not null,
    -- `stopped`: it cannot go on until somebody does something, which the error names.
    status text not null check (status in ('active', 'paused', 'stopped')),
    -- Goes up with every change. Whoever works on a turn writes only while it is as they left it.
    version bigint not null default 1,
    message_id bigint not null,
    -- Runs that were begun.
    pass bigint not null default 0,
    -- Where the run stands that is not over: the next page, and the highest cursor so far.
    progress jsonb,
    -- From where the next run asks.
    cursor jsonb,
    -- Of a trigger: whether what was there at first is known, so that what comes is new.
    seeded boolean not null default false,
    next_at timestamptz not null,
    started_at timestamptz,
    ended_at timestamptz,
    succeeded_at timestamptz,
    -- Of the last run, or the one that is not over.
    created bigint not null default 0,
    updated bigint not null default 0,
    deleted bigint not null default 0,
    rejected bigint not null default 0,
    rejection text,
    -- Failures in a row, and the last one.
    failures integer not null default 0,
    error_code text,
    error_category text,
    error_message text,
    error_run uuid,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    unique nulls not distinct (app_id, kind, name, connection_id)
);
create index polls_listed on polls (tenant_id, app_id, id);
create index polls_connection on polls (connection_id) where connection_id is not null;

-- What a poll has met: for triggers so that nothing is told of twice, for full syncs to see what is missing.
create table poll_items (
    poll_id uuid not null references polls (id) on delete cascade,
    item text not null,
    -- The run that met it last.
    pass bigint not null,
    primary key (poll_id, item)
);
create index poll_items_pass on poll_items (poll_id, pass);
