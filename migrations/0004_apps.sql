create table apps (
    -- Unique per server: it is part of URLs and permission keys.
    id text primary key,
    tenant_id text not null references tenants (id) on delete cascade,
    kind text not null check (kind in ('app', 'integration', 'agent')),
    name text not null,
    version text not null,
    manifest jsonb not null,
    -- The deployment that serves; absent until the first one.
    deployment_id uuid,
    -- False after somebody stopped the worker: it stays stopped over restarts of the server.
    worker_enabled boolean not null default true,
    installed_by uuid references users (id) on delete set null,
    created_at timestamptz not null,
    updated_at timestamptz not null
);
create index apps_tenant on apps (tenant_id, name);

create table deployments (
    id uuid primary key,
    tenant_id text not null references tenants (id) on delete cascade,
    app_id text not null references apps (id) on delete cascade,
    entry_point text not null,
    -- The uploaded archive: every node unpacks its own copy.
    archive bytea not null,
    digest bytea not null,
    created_by uuid references users (id) on delete set null,
    created_at timestamptz not null
);
create index deployments_app on deployments (app_id, created_at desc);

-- The settings of an integration that are no secrets. The secret ones are in the vault.
create table integration_settings (
    tenant_id text not null references tenants (id) on delete cascade,
    integration_id text not null references apps (id) on delete cascade,
    settings jsonb not null,
    updated_at timestamptz not null,
    primary key (tenant_id, integration_id)
);
