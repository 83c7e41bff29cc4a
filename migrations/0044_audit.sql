-- What was done by way of administration, a chain per tenant: each event's hash is over its very text and the hash before it.
-- The text is of the type `json` because that keeps it as it was written; what filters look at is taken from it by the database
-- itself, so that it cannot say anything else.
create table audit_events (
    tenant_id text not null,
    seq bigint not null,
    entry json not null,
    hash bytea not null,
    at text not null generated always as (entry ->> 'at') stored,
    action text not null generated always as (entry ->> 'action') stored,
    actor_id text generated always as (entry #>> '{actor,id}') stored,
    target text generated always as ((entry #>> '{target,kind}') || ':' || (entry #>> '{target,id}')) stored,
    trace_id text generated always as (entry ->> 'traceId') stored,
    primary key (tenant_id, seq)
);
create index audit_events_actor on audit_events (tenant_id, actor_id, seq);
create index audit_events_target on audit_events (tenant_id, target, seq);

-- Where the chain of a tenant ends. Locked by whoever adds to it.
create table audit_heads (
    tenant_id text primary key references tenants (id) on delete cascade,
    seq bigint not null,
    hash bytea not null,
    -- The last event that a checkpoint was signed over, and when.
    checkpoint_seq bigint not null default 0,
    checkpoint_at timestamptz
);

create table audit_checkpoints (
    tenant_id text not null,
    seq bigint not null,
    signature text not null,
    primary key (tenant_id, seq)
);

-- A guard against mistakes, not against whoever owns the database: that is what the chain is for.
create function audit_stays() returns trigger language plpgsql as $$
begin
    if tg_op = 'DELETE' and exists (select from tenants where id = old.tenant_id and deleted_at is not null) then
        return old;
    end if;
    raise exception 'the audit log is only ever added to';
end
$$;
create trigger audit_events_stay before update or delete on audit_events for each row execute function audit_stays();
create trigger audit_checkpoints_stay before update or delete on audit_checkpoints for each row execute function audit_stays();

insert into permissions (tenant_id, key, description)
values ('default', 'admin:audit.read', 'Read and export the audit log');
