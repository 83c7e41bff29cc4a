-- A deployment becomes a version that one can name, list and go back to: it has a number, and remembers the manifest that it was
-- deployed with and the lockfile that its packages were installed from, because old code fits neither a newer manifest nor newer
-- packages.

alter table apps add column last_version integer not null default 0;

alter table deployments
    -- Counts from 1 per app. Absent until the version served for the first time; such a row is a deployment under way, or what is
    -- left of one that a server did not live to finish.
    add column number integer,
    add column size bigint,
    -- Absent once the archive was given up: the version stays in the list, but one cannot go back to it.
    add column manifest jsonb,
    add column manifest_version text,
    -- The lockfile that the server made for an archive without one.
    add column lockfile text,
    -- When it was last made the one that serves, and by whom.
    add column activated_at timestamptz,
    add column activated_by uuid references users (id) on delete set null;

update deployments set
    number = numbered.number,
    size = length(archive),
    manifest = apps.manifest,
    manifest_version = apps.version,
    activated_at = deployments.created_at,
    activated_by = deployments.created_by
from apps, (select id, row_number() over (partition by app_id order by created_at, id) as number from deployments) as numbered
where apps.id = deployments.app_id and numbered.id = deployments.id;

update apps set last_version = coalesce((select max(number) from deployments where app_id = apps.id), 0);

alter table deployments
    alter column size set not null,
    alter column manifest_version set not null,
    add constraint deployments_number unique (app_id, number),
    add constraint deployments_served check ((number is null) = (activated_at is null));

-- An archive in pieces that are written and read one at a time, so that no server holds a whole one in memory.
create table deployment_chunks (
    deployment_id uuid not null references deployments (id) on delete cascade,
    number integer not null,
    bytes bytea not null,
    primary key (deployment_id, number)
);
-- Archives are compressed already.
alter table deployment_chunks alter column bytes set storage external;

insert into deployment_chunks (deployment_id, number, bytes) select id, 0, archive from deployments;

alter table deployments drop column archive;
drop index deployments_app;
