-- SQL that backends run as whoever called them (ADR 56). Every app has database roles of its own, which may log in and hold nothing but
-- the tables of their app. Who calls is a text that the server signs for one transaction; policies and triggers believe no other.
create schema weft_sql;
grant usage on schema weft_sql to public;

-- Notifications go by names that nobody can guess: SQL of an app can send one to any name that it knows.
create table weft_sql.channel (suffix text not null);
insert into weft_sql.channel select replace(gen_random_uuid()::text, '-', '');
create function weft_channel(name text) returns text language sql stable as $$
    select name || '_' || suffix from weft_sql.channel
$$;

-- One row: the secret from which passwords of roles and the signing key follow, sealed, and what checks signatures. The pads are those
-- of HMAC. Who can read them can read every record anyhow.
create table weft_sql.access (
    one boolean primary key default true check (one),
    -- Part of the roles' names: several databases of a cluster may have apps of the same name.
    installation text not null,
    key_version integer not null,
    sealed bytea not null,
    inner_pad bytea not null,
    outer_pad bytea not null,
    created_at timestamptz not null
);

-- Who calls in this transaction, if the server has said so. A text that was signed for another transaction or another role says nothing.
create function weft_sql.identity() returns jsonb language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare
    said text := current_setting('weft.identity', true);
    payload text := substr(said, 65);
    key record;
    identity jsonb;
begin
    if coalesce(said, '') = '' then
        return null;
    end if;
    select inner_pad, outer_pad into key from weft_sql.access;
    if encode(sha256(key.outer_pad || sha256(key.inner_pad || convert_to(payload, 'UTF8'))), 'hex') is distinct from left(said, 64) then
        return null;
    end if;
    identity := payload::jsonb;
    if identity->>'transaction' is distinct from pg_current_xact_id_if_assigned()::text
        or identity->>'role' is distinct from session_user::text then
        return null;
    end if;
    return identity;
end $$;

-- Whether the caller has a right: a key that was granted, or one with `:*` above it. For policies, best as `(select weft_sql.may('…'))`.
create function weft_sql.may(required text) returns boolean language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare
    grants jsonb := weft_sql.identity()->'grants';
    prefix text := required;
begin
    if grants is null then
        return false;
    end if;
    if grants ? '*' or grants ? required then
        return true;
    end if;
    while prefix like '%:%' loop
        prefix := regexp_replace(prefix, ':[^:]*$', '');
        if grants ? (prefix || ':*') then
            return true;
        end if;
    end loop;
    return false;
end $$;

-- The caller; null while an app acts as itself, and outside of what backends run.
create function weft_sql.caller() returns uuid language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select (weft_sql.identity()->>'actor')::uuid
$$;

-- What of PostgreSQL any role may use and no app should: a few functions, temporary tables, the catalogues. Empty where it is closed.
create function weft_sql.open_doors() returns setof text language sql stable as $$
    select routine.oid::regprocedure::text from pg_proc as routine
    where routine.pronamespace = 'pg_catalog'::regnamespace
        and routine.proname ~ ('^(pg_notify$|set_config$|pg_(try_)?advisory_|pg_sleep|pg_(cancel|terminate)_backend$|pg_logical_|pg_export_snapshot$'
            || '|lo_|loread$|lowrite$|(query|cursor|table|schema|database)_to_xml'
            -- What is said of anything by its number, whoever it belongs to: texts of functions, views and triggers, counts, sizes, locks.
            || '|pg_get_function_|pg_get_[a-z_]*def(_|$)|pg_stat_get_|pg_lock_status$|pg_blocking_pids$|pg_prepared_xact$|pg_((total_)?relation|table|indexes|database|tablespace)_size$|pg_relation_file)')
        and exists (
            select from aclexplode(coalesce(routine.proacl, acldefault('f', routine.proowner)))
            where grantee = 0 and privilege_type = 'EXECUTE')
    union all
    select 'temporary tables' from pg_database as this
    where this.datname = current_database() and exists (
        select from aclexplode(coalesce(this.datacl, acldefault('d', this.datdba))) where grantee = 0 and privilege_type = 'TEMPORARY')
    union all
    select relation.oid::regclass::text from pg_class as relation
    where relation.relnamespace = 'pg_catalog'::regnamespace and relation.relkind in ('r', 'v')
        and relation.relname <> 'pg_prepared_statements'
        and exists (select from aclexplode(relation.relacl) where grantee = 0 and privilege_type = 'SELECT')
$$;

-- Closes them to everybody but the server's own account, in this database. For a superuser.
create function weft_sql.close_doors() returns void language plpgsql as $$
declare
    server regrole := (select nspowner from pg_namespace where nspname = 'weft_sql');
    door text;
    what text;
begin
    for door in select weft_sql.open_doors() loop
        what := case
            when door = 'temporary tables' then format('temporary on database %I', current_database())
            when door like '%(%' then format('execute on function %s', door)
            else format('select on %s', door)
        end;
        execute format('grant %s to %s', what, server);
        execute format('revoke %s from public', what);
    end loop;
end $$;
revoke execute on function weft_sql.close_doors(), weft_sql.open_doors() from public;

-- Who changes something, and how, for the triggers that note it. SQL of an app says nothing about itself: the server does, and signs it.
create function weft_sql.context() returns json language sql stable as $$
    select case when session_user ~ '^weft_[0-9a-f]{8}_' then weft_sql.identity()::json
        else nullif(current_setting('weft.audit', true), '')::json end
$$;
revoke execute on function weft_sql.context() from public;

-- As before, but what SQL of an app changed was done by whom the server says, and never by whom the SQL says. No record becomes another:
-- its id stays what it is, so each change finds the record that it is about.
create or replace function weft_audit() returns trigger language plpgsql security definer set search_path from current as $$
#variable_conflict use_variable
declare
    _context json := weft_sql.context();
    _changed timestamptz := coalesce((_context->>'at')::timestamptz, clock_timestamp());
    _tenant text := _context->>'tenant';
    _noted bigint;
begin
    if _tenant is null then
        select tenant_id into _tenant from apps where id = tg_table_schema;
        _tenant := coalesce(_tenant, '');
    end if;
    if tg_op = 'INSERT' then
        insert into data_audit (tenant_id, app_id, entity, record_id, operation, new_record, actor_id, delegator_id, trigger_ref,
            trace_id, changed_at)
        select _tenant, tg_table_schema, tg_table_name, _new_rows.id::text, tg_op, row_to_json(_new_rows), (_context->>'actor')::uuid,
            (_context->>'delegator')::uuid, _context->>'trigger', _context->>'trace', _changed
        from _new_rows;
    elsif tg_op = 'UPDATE' then
        insert into data_audit (tenant_id, app_id, entity, record_id, operation, old_record, new_record, actor_id, delegator_id,
            trigger_ref, trace_id, changed_at)
        select _tenant, tg_table_schema, tg_table_name, _new_rows.id::text, tg_op, row_to_json(_old_rows), row_to_json(_new_rows),
            (_context->>'actor')::uuid, (_context->>'delegator')::uuid, _context->>'trigger', _context->>'trace', _changed
        from _old_rows join _new_rows using (id);
        get diagnostics _noted = row_count;
        if _noted is distinct from (select count(*) from _new_rows) then
            raise exception 'the id of a record cannot be changed' using errcode = 'integrity_constraint_violation';
        end if;
    else
        insert into data_audit (tenant_id, app_id, entity, record_id, operation, old_record, actor_id, delegator_id, trigger_ref,
            trace_id, changed_at)
        select _tenant, tg_table_schema, tg_table_name, _old_rows.id::text, tg_op, row_to_json(_old_rows), (_context->>'actor')::uuid,
            (_context->>'delegator')::uuid, _context->>'trigger', _context->>'trace', _changed
        from _old_rows;
    end if;
    return null;
end $$;
