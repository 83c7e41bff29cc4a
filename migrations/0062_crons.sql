-- What is done again and again, by the clock. Each tick puts a job into the queue of the app.
create sequence cron_numbers;

create table crons (
    id uuid primary key,
    tenant_id text not null references tenants (id) on delete cascade,
    app_id text not null references apps (id) on delete cascade,
    name text not null,
    schedule text not null,
    -- A name of the IANA database; absent for UTC.
    timezone text,
    payload jsonb not null,
    overlap_policy text not null check (overlap_policy in ('skip', 'queue')),
    enabled boolean not null,
    -- The manifest declares it, and it goes when the manifest does so no more.
    declared boolean not null,
    -- As whom its jobs are done; absent after they were deleted, and then it fires no more.
    created_by uuid references users (id) on delete set null,
    -- Who made it, when that was somebody who acts as `created_by`. Looked at for every job, so it stays when they are deleted.
    set_up_by uuid,
    -- What its jobs may do at most, when the token that made it could do less than its owner.
    only_permissions text[],
    -- A new one whenever it is scheduled anew; absent while it is disabled.
    number bigint,
    -- The next tick; absent while it is disabled.
    next_tick timestamptz,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    unique (app_id, name)
);
create index crons_tenant on crons (tenant_id, app_id, name);
create index crons_due on crons (next_tick) where next_tick is not null;

-- Every tick, and every time that somebody fired it by hand.
create table cron_firings (
    id bigint generated always as identity primary key,
    tenant_id text not null,
    cron_id uuid not null references crons (id) on delete cascade,
    -- Absent when it was fired by hand.
    tick timestamptz,
    fired_at timestamptz not null,
    outcome text not null check (outcome in ('enqueued', 'skipped', 'refused', 'missed')),
    -- The job, if there is one.
    message_id bigint,
    -- Why there is none.
    note text,
    -- However many servers run: one firing per tick.
    unique (cron_id, tick)
);
create index cron_firings_cron on cron_firings (cron_id, id desc);
create index cron_firings_age on cron_firings using brin (fired_at);
