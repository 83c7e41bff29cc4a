-- The outbox: what happened, written in the transaction in which it happened, and read by consumers. Why it is read by snapshots:
-- docs/adr/0053-events-are-read-by-snapshots.md.
create sequence event_ids;

-- The number of a new event. Its transaction gets its own number first: whoever reads the last number of an event, then begins a transaction
-- of its own, knows that all transactions with a higher number than that one have events with higher numbers.
create function weft_event_id() returns bigint language plpgsql volatile as $$
begin
    perform pg_current_xact_id();
    return nextval('event_ids');
end $$;

-- Written once, read in order, removed when every consumer has had it. Never updated.
create table events (
    id bigint primary key default weft_event_id(),
    xid xid8 not null default pg_current_xact_id(),
    tenant_id text not null,
    -- What kind of thing happened: `record` is the change of a record of an app.
    kind text not null,
    -- What it happened to, as consumers ask for it: `crm/contacts`.
    subject text not null,
    -- How many consumers' reactions led here; 0 for what somebody did.
    hops smallint not null,
    occurred_at timestamptz not null,
    body json not null
) with (
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 20000,
    autovacuum_vacuum_insert_scale_factor = 0,
    autovacuum_vacuum_insert_threshold = 200000,
    autovacuum_vacuum_cost_delay = 0
);
create index events_transaction on events (xid, id);

-- Who reads, and how far each is. What is visible in `seen` was consumed. While a window is open, so is what is visible in `until`, up
-- to the event `after_id`.
create table event_consumers (
    name text primary key,
    seen pg_snapshot not null default '1:1:',
    -- The last number of an event, and then the transaction, of whoever took the snapshot `seen`: later transactions have later events.
    seen_id bigint not null default 0,
    seen_xid xid8 not null default '0',
    until pg_snapshot,
    until_id bigint,
    until_xid xid8,
    after_id bigint not null default 0
);

-- Changes of records that somebody wants to hear of. Nothing is written for the others.
create table event_interests (
    tenant_id text not null,
    app_id text not null references apps (id) on delete cascade,
    entity text not null,
    operation text not null check (operation in ('INSERT', 'UPDATE', 'DELETE')),
    consumer text not null,
    primary key (app_id, entity, operation, consumer)
);

-- Hangs on the audit of records, so it sees every change with what was before and after, whoever made it.
create function weft_record_events() returns trigger language plpgsql security definer set search_path from current as $$
#variable_conflict use_variable
declare
    _context json := weft_sql.context();
begin
    insert into events (tenant_id, kind, subject, hops, occurred_at, body)
    select tenant_id, 'record', app_id || '/' || entity,
        coalesce((_context->>'hops')::smallint, 0), changed_at,
        json_build_object('operation', operation, 'record_id', record_id, 'record', new_record, 'old_record', old_record)
    from _changes as change
    where exists (select from event_interests as interest where interest.app_id = change.app_id and interest.entity = change.entity
                      and interest.operation = change.operation)
    order by id;
    if found then
        perform pg_notify(weft_channel('weft_events'), '');
    end if;
    return null;
end $$;
create trigger weft_record_events after insert on data_audit referencing new table as _changes
    for each statement execute function weft_record_events();
