-- A person has one account on a server and is a member of any number of tenants. Roles, sessions and being switched off belong
-- to the membership. Machines are members of exactly one tenant.
create table memberships (
    tenant_id text not null references tenants (id) on delete cascade,
    user_id uuid not null references users (id) on delete cascade,
    -- Set while the member may not act in the tenant.
    disabled_at timestamptz,
    created_at timestamptz not null,
    -- Whoever logs in without naming a tenant gets the one used last.
    last_login_at timestamptz,
    primary key (tenant_id, user_id)
);
create index memberships_user on memberships (user_id);

insert into memberships (tenant_id, user_id, disabled_at, created_at)
select tenant_id, id, disabled_at, created_at from users;

alter table role_assignments drop constraint role_assignments_user_id_fkey;
alter table role_assignments add foreign key (tenant_id, user_id) references memberships (tenant_id, user_id) on delete cascade;

alter table sessions add foreign key (tenant_id, user_id) references memberships (tenant_id, user_id) on delete cascade;
-- Whether the login proved who somebody is to the whole server, as a password does, and not only to one tenant, as that tenant's
-- own single sign-on does. Only such a session may go on in another tenant.
alter table sessions add column spans_tenants boolean not null default false;

drop index users_email_unique;
alter table users drop column tenant_id, drop column disabled_at;
-- E-mail addresses are compared without regard to case. Those of machines are made up and unique within their tenant only.
create unique index users_email_unique on users (lower(email)) where kind = 'user';
