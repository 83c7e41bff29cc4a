-- Where users logged in with their password before. Somebody who guesses passwords from elsewhere does not use up the attempts
-- of the owner. A password is good for the whole server, so this is of the account and not of a membership.
create table login_networks (
    user_id uuid not null references users (id) on delete cascade,
    -- An IPv4 address, or the /64 of an IPv6 address.
    network text not null,
    last_used_at timestamptz not null,
    primary key (user_id, network)
);
create index login_networks_last_used on login_networks (last_used_at);
