-- What is to be done when a record of an app changes. Whoever made it answers for it: its jobs are done as them.
create table hooks (
    id uuid primary key,
    tenant_id text not null references tenants (id) on delete cascade,
    app_id text not null references apps (id) on delete cascade,
    entity text not null,
    operation text not null check (operation in ('INSERT', 'UPDATE', 'DELETE')),
    action_type text not null check (action_type in ('job', 'agent', 'workflow')),
    action_config jsonb not null,
    -- Of an update: only when one of these fields changed. Absent: whatever changed.
    changed_fields text[],
    -- Only records that meet it, in the language of queries.
    condition jsonb,
    active boolean not null,
    -- As whom its jobs are done. It stays when they are deleted: then the jobs are refused, and say so.
    created_by uuid not null,
    -- Who made it, when that was somebody who acts as `created_by`.
    set_up_by uuid,
    -- What its jobs may do at most, when the token that made it could do less than its owner.
    only_permissions text[],
    -- Events up to this number happened before it was there, or while it was switched off.
    since bigint not null,
    created_at timestamptz not null,
    updated_at timestamptz not null
);
create index hooks_app on hooks (tenant_id, app_id, id desc);
create index hooks_active on hooks (app_id, entity) where active;

insert into event_consumers (name) values ('hooks');

-- For apps that are installed already.
insert into permissions (tenant_id, key, description, source_app)
select tenant_id, 'app:' || id || ':hook.' || right_name, 'Hooks of ' || name || ': ' || right_name, id
from apps cross join (values ('read'), ('write'), ('manage_others')) as missing (right_name)
on conflict do nothing;
