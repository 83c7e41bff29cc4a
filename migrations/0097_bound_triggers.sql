-- The triggers of an integration that an app wants to hear of, through the connection of its binding.
alter table app_bindings add column triggers text[] not null default '{}';
create index app_bindings_triggers on app_bindings (tenant_id, integration_id) where triggers <> '{}';
