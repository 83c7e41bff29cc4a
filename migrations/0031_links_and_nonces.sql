-- Links that log in whoever opens them first. Rows stay for a week after they expire, so that it can be told what became of them.
create table magic_links (
    token_hash bytea primary key,
    tenant_id text not null references tenants (id) on delete cascade,
    email text not null,
    roles text[] not null,
    redirect_uri text,
    delivery text not null check (delivery in ('nonce', 'legacy')),
    -- A link gives nothing that whoever made it may not do in the tenant when it is used, and dies with that account.
    created_by uuid not null references users (id) on delete cascade,
    expires_at timestamptz not null,
    used_at timestamptz
);
create index magic_links_expiry on magic_links (expires_at);
create index magic_links_creator on magic_links (created_by);

-- What a browser carries back after a sign-on instead of tokens: exchanged once, within seconds.
create table login_nonces (
    nonce_hash bytea primary key,
    tenant_id text not null references tenants (id) on delete cascade,
    user_id uuid not null references users (id) on delete cascade,
    expires_at timestamptz not null
);
create index login_nonces_expiry on login_nonces (expires_at);
create index login_nonces_user on login_nonces (user_id);

insert into permissions (tenant_id, key, description) values ('default', 'auth.invite', 'Make links that log somebody in');
