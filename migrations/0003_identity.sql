create table users (
    id uuid primary key,
    tenant_id text not null references tenants (id) on delete cascade,
    kind text not null default 'user' check (kind in ('user', 'service_account', 'agent')),
    email text not null,
    display_name text,
    -- Absent for people who sign in elsewhere and for machines.
    password_hash text,
    disabled_at timestamptz,
    created_at timestamptz not null
);
-- E-mail addresses are compared without regard to case.
create unique index users_email_unique on users (tenant_id, lower(email));

-- One login. A refresh token names it; ending it ends the access tokens made from it too.
create table sessions (
    id uuid primary key,
    tenant_id text not null references tenants (id) on delete cascade,
    user_id uuid not null references users (id) on delete cascade,
    created_at timestamptz not null,
    expires_at timestamptz not null
);
create index sessions_user on sessions (user_id);
create index sessions_expiry on sessions (expires_at);

create table roles (
    tenant_id text not null references tenants (id) on delete cascade,
    name text not null,
    description text,
    inherits text[] not null default '{}',
    permissions text[] not null default '{}',
    primary key (tenant_id, name)
);
insert into roles (tenant_id, name, description, permissions)
values ('default', 'admin', 'May do everything', '{*}'), ('default', 'base', 'May sign in and nothing else', '{}');

create table role_assignments (
    tenant_id text not null,
    user_id uuid not null references users (id) on delete cascade,
    role text not null,
    assigned_at timestamptz not null,
    assigned_by uuid references users (id) on delete set null,
    primary key (tenant_id, user_id, role),
    foreign key (tenant_id, role) references roles (tenant_id, name) on delete cascade
);

-- The catalogue of keys that exist. A grant does not need a row here; lists for people do.
create table permissions (
    tenant_id text not null references tenants (id) on delete cascade,
    key text not null,
    description text not null,
    -- The app that declares the key; absent for the platform's own.
    source_app text,
    primary key (tenant_id, key)
);
insert into permissions (tenant_id, key, description)
values
    ('default', 'platform:apps.create', 'Install new apps'),
    ('default', 'admin:apps.install', 'Install, replace and remove apps'),
    ('default', 'admin:apps.deploy', 'Deploy code, start and stop workers'),
    ('default', 'admin:integrations.configure', 'Save the configuration of integrations'),
    ('default', 'admin:secrets.manage', 'Set, list and delete secrets'),
    ('default', 'admin:runs.read', 'See the runs of everybody'),
    ('default', 'admin:vault.rotate', 'Replace the master key of the vault');
