-- A manifest's `trigger` is a hook on another app's entity. It comes and goes with the app that declares it, and is there once.
alter table hooks add column declared_by text references apps (id) on delete cascade;
create unique index hooks_declared on hooks (declared_by, app_id, entity, operation) where declared_by is not null;
