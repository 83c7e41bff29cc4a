-- Further configurations of an integration, for example several OAuth clients at one vendor. What one does not say is taken from
-- the integration's own.
create table integration_configurations (
    id uuid primary key,
    tenant_id text not null references tenants (id) on delete cascade,
    integration_id text not null references apps (id) on delete cascade,
    label text not null,
    -- The values, sealed for this row.
    key_version integer not null,
    sealed bytea not null,
    created_by uuid references users (id) on delete set null,
    created_at timestamptz not null,
    unique (tenant_id, integration_id, label)
);

-- The configuration that a connection was made with; absent: the integration's own.
alter table connections add column configuration_id uuid references integration_configurations (id);
create index connections_configuration on connections (configuration_id) where configuration_id is not null;
alter table connection_flows add column configuration_id uuid references integration_configurations (id) on delete cascade;
