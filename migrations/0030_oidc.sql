-- Providers of single sign-on. The client's secret is in the vault, in the scope `oidc:<id>`.
create table oidc_providers (
    tenant_id text not null references tenants (id) on delete cascade,
    id text not null,
    display_name text not null,
    issuer_url text not null,
    client_id text not null,
    scopes text[] not null,
    -- Whether whoever the provider knows gets an account.
    auto_register boolean not null,
    -- Of a new account, when the claim names no role that exists.
    default_role text not null,
    role_claim text,
    enabled boolean not null,
    updated_at timestamptz not null,
    primary key (tenant_id, id)
);

-- Whom a user is at a provider. The issuer is part of the key: a provider that is pointed at another one must not take the
-- other one's subjects for its own.
create table user_identities (
    tenant_id text not null,
    provider_id text not null,
    issuer_url text not null,
    subject text not null,
    user_id uuid not null references users (id) on delete cascade,
    linked_at timestamptz not null,
    primary key (tenant_id, provider_id, issuer_url, subject),
    foreign key (tenant_id, provider_id) references oidc_providers (tenant_id, id) on delete cascade
);
create index user_identities_user on user_identities (user_id);

-- Logins on their way through a provider. The state itself is only in the browser's address; a row is taken once.
create table oidc_logins (
    state_hash bytea primary key,
    tenant_id text not null,
    provider_id text not null,
    nonce text not null,
    pkce_verifier text not null,
    redirect_uri text,
    delivery text not null check (delivery in ('nonce', 'legacy')),
    -- Digest of the cookie of the browser that began.
    browser_hash bytea not null,
    expires_at timestamptz not null,
    foreign key (tenant_id, provider_id) references oidc_providers (tenant_id, id) on delete cascade
);
create index oidc_logins_expiry on oidc_logins (expires_at);
