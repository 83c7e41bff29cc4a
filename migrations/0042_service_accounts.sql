-- What a machine's account has besides what every user has.
create table service_accounts (
    id uuid primary key references users (id) on delete cascade,
    tenant_id text not null,
    slug text not null,
    -- The person who answers for it. Whoever owns one cannot be removed before handing it over.
    owner_id uuid not null,
    unique (tenant_id, slug),
    foreign key (tenant_id, id) references memberships (tenant_id, user_id) on delete cascade,
    constraint service_accounts_owner foreign key (tenant_id, owner_id) references memberships (tenant_id, user_id)
);
create index service_accounts_owned on service_accounts (tenant_id, owner_id);

-- Keys of service accounts. Several are valid at once, so that one can be replaced without a gap. Only digests are stored.
create table service_account_keys (
    id uuid primary key,
    tenant_id text not null references tenants (id) on delete cascade,
    account_id uuid not null references service_accounts (id) on delete cascade,
    name text not null,
    digest bytea not null unique,
    -- The beginning of the key, to tell keys apart.
    prefix text not null,
    created_at timestamptz not null,
    created_by uuid references users (id) on delete set null,
    expires_at timestamptz not null,
    -- To the hour: a key in use does not write a row per token.
    last_used_at timestamptz
);
create index service_account_keys_account on service_account_keys (account_id);

-- Who may act as whom. Having one is not enough: the actor must hold every permission of the target when it acts.
create table delegations (
    tenant_id text not null references tenants (id) on delete cascade,
    actor_id uuid not null,
    target_id uuid not null,
    granted_at timestamptz not null,
    granted_by uuid references users (id) on delete set null,
    primary key (tenant_id, actor_id, target_id),
    foreign key (tenant_id, actor_id) references memberships (tenant_id, user_id) on delete cascade,
    foreign key (tenant_id, target_id) references memberships (tenant_id, user_id) on delete cascade
);
create index delegations_target on delegations (tenant_id, target_id);

insert into permissions (tenant_id, key, description)
values
    ('default', 'admin:service_accounts.manage', 'Create and remove accounts of machines, their keys, and who may act as them'),
    ('default', 'connections:read', 'See connections and their health'),
    ('default', 'connections:write', 'Establish and change connections'),
    ('default', 'providers:write', 'Register providers'),
    ('default', 'subscriptions:write', 'Create and change webhook subscriptions'),
    ('default', 'deliveries:ingest', 'Hand in webhook deliveries'),
    ('default', 'credentials:rotate', 'Rotate stored credentials')
on conflict do nothing;
