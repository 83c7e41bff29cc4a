-- Ids grow with time. Ascending indexes get new rows at their right end, which PostgreSQL is made for; lists read them backwards.
drop index runs_tenant, runs_provider, runs_principal, runs_failed;
create index runs_tenant on runs (tenant_id, id);
create index runs_provider on runs (tenant_id, provider, id);
create index runs_principal on runs (tenant_id, principal_id, id);
create index runs_failed on runs (tenant_id, id) where status = 'failed';
