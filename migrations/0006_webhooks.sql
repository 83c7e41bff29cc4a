-- A token URL per declared webhook. The token is found by its digest and read back from the vault (scope `webhook`).
create table webhook_endpoints (
    id uuid primary key,
    tenant_id text not null references tenants (id) on delete cascade,
    app_id text not null references apps (id) on delete cascade,
    name text not null,
    method text not null,
    token_digest bytea not null unique,
    token_prefix text not null,
    created_at timestamptz not null,
    unique (app_id, name)
);

-- What arrived. Committed before the sender gets an answer.
create table webhook_deliveries (
    id uuid primary key,
    tenant_id text not null,
    endpoint_id uuid not null,
    app_id text not null,
    run_id uuid not null,
    headers jsonb not null,
    body bytea not null,
    received_at timestamptz not null
);
create index webhook_deliveries_endpoint on webhook_deliveries (endpoint_id, id desc);
