-- Data keys, one line of versions per tenant, wrapped by the master key that `master_key_id` names.
create table vault_keys (
    tenant_id text not null references tenants (id) on delete cascade,
    version integer not null,
    master_key_id text not null,
    wrapped bytea not null,
    created_at timestamptz not null,
    primary key (tenant_id, version)
);

-- Sealed values. The newest version of a name is the current one; the associated data binds tenant, scope, name and version.
create table secrets (
    tenant_id text not null references tenants (id) on delete cascade,
    scope text not null,
    name text not null,
    version integer not null,
    key_version integer not null,
    sealed bytea not null,
    created_at timestamptz not null,
    created_by uuid,
    primary key (tenant_id, scope, name, version),
    foreign key (tenant_id, key_version) references vault_keys (tenant_id, version)
);
