-- The keys with which the server signs tokens of machines and checkpoints of the audit log. The private half is sealed in the vault's
-- manner and removed when the key retires. The public half stays for as long as something that it signed may have to be checked.
create table signing_keys (
    id text primary key,
    public_key jsonb not null,
    key_version integer,
    sealed bytea,
    created_at timestamptz not null,
    -- Published before, so that whoever remembers the set of keys for some minutes knows it by then.
    signs_from timestamptz not null,
    -- When its successor took over.
    retired_at timestamptz,
    -- When somebody withdrew it: nothing that it signed is accepted any more.
    revoked_at timestamptz
);

insert into permissions (tenant_id, key, description)
values ('default', 'admin:signing_keys.rotate', 'Replace the keys that sign tokens of machines');
