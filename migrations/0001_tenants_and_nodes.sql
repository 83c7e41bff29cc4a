-- Every row of the product belongs to a tenant. One exists from the start.
create table tenants (
    id text primary key,
    name text not null,
    created_at timestamptz not null
);
insert into tenants (id, name, created_at) values ('default', 'Default', now());

-- One row per running server. A node proves that it lives by holding an advisory lock on `lock_key`;
-- whoever gets that lock knows that the node is gone.
create table nodes (
    id uuid primary key,
    lock_key bigint not null generated always as identity unique,
    started_at timestamptz not null
);
