-- What calls act with at a vendor: somebody's account there (direct), or the leave to use somebody else's (delegation).
create table connections (
    id uuid primary key,
    tenant_id text not null references tenants (id) on delete cascade,
    integration_id text not null references apps (id) on delete cascade,
    kind text not null check (kind in ('direct', 'delegation')),
    -- Whose it is. Absent: the whole tenant's, or an app's to which it was delegated.
    user_id uuid,
    agent_app_id text references apps (id) on delete cascade,
    -- Where a delegation leads.
    source_id uuid references connections (id) on delete cascade,
    label text,
    status text not null default 'active' check (status in ('active', 'expired', 'revoked', 'error')),
    -- A short name, and words for a person.
    status_cause text,
    status_message text,
    status_since timestamptz not null,
    -- The credentials, sealed for this row and this version.
    version bigint not null default 1,
    key_version integer,
    sealed bytea,
    -- When the vendor's token is over, when to renew it, and when that was done last. Absent where the server does not renew.
    expires_at timestamptz,
    refresh_at timestamptz,
    refreshed_at timestamptz,
    -- A renewal that was begun: by whom, when, and until when nobody else begins one. `started` without an end: it broke off.
    refresh_holder uuid,
    refresh_started_at timestamptz,
    refresh_until timestamptz,
    -- How far a delegation reaches.
    delegated_until timestamptz,
    delegated_actions text[],
    delegated_calls bigint,
    created_by uuid references users (id) on delete set null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    -- A member that leaves takes its connections along.
    foreign key (tenant_id, user_id) references memberships (tenant_id, user_id) on delete cascade,
    check ((kind = 'direct') = (sealed is not null) and (kind = 'delegation') = (source_id is not null)),
    check (kind = 'direct' or num_nonnulls(user_id, agent_app_id) = 1)
);
create unique index connections_label on connections (tenant_id, integration_id, user_id, label) nulls not distinct
    where kind = 'direct' and label is not null;
create index connections_owner on connections (tenant_id, integration_id, user_id, id);
create index connections_source on connections (source_id) where source_id is not null;
-- Tokens that nobody uses are renewed all the same, before the vendor forgets them.
create index connections_idle on connections (refreshed_at) where refreshed_at is not null and status = 'active';

-- Which connection an app uses. Without a user: for everybody who uses the app.
create table app_bindings (
    id uuid primary key,
    tenant_id text not null references tenants (id) on delete cascade,
    app_id text not null references apps (id) on delete cascade,
    integration_id text not null references apps (id) on delete cascade,
    user_id uuid,
    -- Absent: the app may use the integration, with whatever connection the caller has.
    connection_id uuid references connections (id) on delete cascade,
    created_by uuid references users (id) on delete set null,
    created_at timestamptz not null,
    unique nulls not distinct (tenant_id, app_id, integration_id, user_id),
    foreign key (tenant_id, user_id) references memberships (tenant_id, user_id) on delete cascade
);

-- Somebody who was sent to a vendor and is to come back, once and soon.
create table connection_flows (
    state_hash bytea primary key,
    tenant_id text not null references tenants (id) on delete cascade,
    integration_id text not null references apps (id) on delete cascade,
    user_id uuid not null,
    shared boolean not null,
    -- The connection that is being renewed, when it is one.
    connection_id uuid references connections (id) on delete cascade,
    label text,
    callback_url text not null,
    pkce_verifier text not null,
    expires_at timestamptz not null,
    foreign key (tenant_id, user_id) references memberships (tenant_id, user_id) on delete cascade
);
create index connection_flows_expiry on connection_flows (expires_at);

-- Rows also go with what they belong to, so the database itself tells the nodes what they may not remember any more. It names the
-- transaction, so that a node that made the change itself knows that it has heeded it already.
create function announce_connection() returns trigger language plpgsql as $$
begin
    if tg_op <> 'INSERT' then
        if tg_op = 'DELETE' or (old.version, old.status) is distinct from (new.version, new.status) then
            perform pg_notify(weft_channel('weft_changes'), 'connection ' || old.id);
        end if;
        if tg_op = 'UPDATE' and (old.status, old.user_id) is not distinct from (new.status, new.user_id)
            and not coalesce(old.delegated_calls > 0 and new.delegated_calls = 0, false) then
            return null;
        end if;
        perform pg_notify(weft_channel('weft_changes'), 'connections ' || old.tenant_id || ' ' || pg_current_xact_id()::text);
        return null;
    end if;
    perform pg_notify(weft_channel('weft_changes'), 'connections ' || new.tenant_id || ' ' || pg_current_xact_id()::text);
    return null;
end $$;
create trigger connections_announce after insert or update or delete on connections
    for each row execute function announce_connection();

create function announce_binding() returns trigger language plpgsql as $$
begin
    perform pg_notify(weft_channel('weft_changes'), 'connections ' || coalesce(new.tenant_id, old.tenant_id) || ' ' || pg_current_xact_id()::text);
    return null;
end $$;
create trigger app_bindings_announce after insert or update or delete on app_bindings
    for each row execute function announce_binding();
