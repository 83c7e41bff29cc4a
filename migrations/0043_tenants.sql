-- A tenant that is switched off keeps everything and lets nobody in. One that is being deleted has lost its keys already, and its rows
-- go in batches; the row stays until the last of them is gone.
alter table tenants
    add column disabled_at timestamptz,
    add column deleted_at timestamptz,
    add column created_by uuid references users (id) on delete set null;

-- Keys that act on the server as a whole are of use in its own tenant, `default`, only.
alter table permissions add column of_the_instance boolean not null default false;
update permissions set of_the_instance = true where key in ('admin:vault.rotate', 'admin:signing_keys.rotate');
insert into permissions (tenant_id, key, description, of_the_instance)
values ('default', 'platform:tenants.manage', 'Create, switch off and delete tenants', true);
