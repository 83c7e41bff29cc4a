-- One row per executed action, RPC or webhook. Written in groups; a row that is `running` belongs to a call in flight on `node_id`.
create table runs (
    id uuid primary key,
    tenant_id text not null,
    node_id uuid not null,
    kind text not null,
    operation text not null,
    -- The integration or app that executed it.
    provider text not null,
    action text not null,
    -- The app on whose behalf it was called, when one was named.
    app_id text,
    principal_id uuid,
    principal_kind text,
    principal_email text,
    connection_id uuid,
    parent_id uuid,
    status text not null check (status in ('running', 'succeeded', 'failed')),
    attempts integer not null,
    started_at timestamptz not null,
    completed_at timestamptz,
    duration_us bigint,
    input_bytes bigint not null,
    output_bytes bigint,
    error_code text,
    error_category text,
    error_message text,
    trace_id text not null
);
create index runs_tenant on runs (tenant_id, id desc);
create index runs_provider on runs (tenant_id, provider, id desc);
create index runs_principal on runs (tenant_id, principal_id, id desc);
create index runs_failed on runs (tenant_id, id desc) where status = 'failed';
create index runs_running on runs (node_id) where status = 'running';

-- What a caller's Idempotency-Key was used for, and the sealed answer once there is one.
create table idempotency_keys (
    tenant_id text not null references tenants (id) on delete cascade,
    principal_id uuid not null,
    operation text not null,
    key text not null,
    -- Digest of the input: the same key with another input is a mistake of the caller.
    request_digest bytea not null,
    run_id uuid not null,
    key_version integer,
    sealed_answer bytea,
    created_at timestamptz not null,
    primary key (tenant_id, principal_id, operation, key)
);
create index idempotency_keys_age on idempotency_keys (created_at);
