-- The data of apps. Each app has a schema of its own, named like it, with a table per entity; the server makes and changes these from
-- the app's manifest. What is here serves them all.

-- Whether a table has rows, so that a plan knows what dropping it or its columns would lose.
create function weft_has_rows(regclass) returns boolean language plpgsql stable as $$
declare
    found_one boolean;
begin
    execute format('select exists (select from %s)', $1) into found_one;
    return found_one;
end $$;

-- Values of columns whose type changes: what cannot be read as the new type becomes null.
create function weft_try_number(value text) returns double precision language plpgsql immutable as $$
begin return value::double precision; exception when others then return null; end $$;
create function weft_try_boolean(value text) returns boolean language plpgsql immutable as $$
begin return value::boolean; exception when others then return null; end $$;
create function weft_try_date(value text) returns date language plpgsql stable as $$
begin return value::date; exception when others then return null; end $$;
create function weft_try_timestamp(value text) returns timestamptz language plpgsql stable as $$
begin return value::timestamptz; exception when others then return null; end $$;
create function weft_try_uuid(value text) returns uuid language plpgsql immutable as $$
begin return value::uuid; exception when others then return null; end $$;
create function weft_try_texts(value jsonb) returns text[] language plpgsql immutable as $$
begin return array(select jsonb_array_elements_text(value)); exception when others then return null; end $$;
create function weft_try_numbers(value jsonb) returns double precision[] language plpgsql immutable as $$
begin return array(select jsonb_array_elements_text(value)::double precision); exception when others then return null; end $$;

-- Every change of a record, by whatever way it was made: a request, a deletion that cascades, a statement of an administrator.
-- A partition per month, made ahead; what fits none is in the last one. Old months are dropped whole.
create sequence data_audit_id;
create table data_audit (
    id bigint not null default nextval('data_audit_id'),
    tenant_id text not null,
    app_id text not null,
    entity text not null,
    record_id text not null,
    operation text not null,
    old_record json,
    new_record json,
    -- Who did it, and on whose behalf when that was somebody else. Absent for what no request caused.
    actor_id uuid,
    delegator_id uuid,
    -- By which way: `api`, `collection`, `app_sql`, `app_tx`, `agent_tool`.
    trigger_ref text,
    trace_id text,
    changed_at timestamptz not null,
    primary key (id, changed_at)
) partition by range (changed_at);
alter sequence data_audit_id owned by data_audit.id;
create index data_audit_record on data_audit (app_id, entity, record_id, id);
create table data_audit_rest partition of data_audit default;

-- Makes the partitions of a month and the next one.
create function weft_audit_prepare(at timestamptz) returns void language plpgsql as $$
declare
    first date := date_trunc('month', at at time zone 'UTC');
    name text;
begin
    for step in 0..1 loop
        name := 'data_audit_' || to_char(first + make_interval(months => step), 'YYYY_MM');
        if to_regclass(quote_ident(name)) is null then
            execute format('create table if not exists %I partition of data_audit for values from (%L) to (%L)', name,
                (first + make_interval(months => step)) at time zone 'UTC', (first + make_interval(months => step + 1)) at time zone 'UTC');
        end if;
    end loop;
end $$;

-- Drops the months that ended before a time, and the rows of the last partition that are as old. Returns how many months.
create function weft_audit_prune(before timestamptz) returns integer language plpgsql as $$
declare
    partition regclass;
    dropped integer := 0;
begin
    for partition in
        select inhrelid::regclass from pg_inherits join pg_class on pg_class.oid = inhrelid
        where inhparent = 'data_audit'::regclass and relname ~ '^data_audit_\d{4}_\d{2}$'
            and (to_date(right(relname, 7), 'YYYY_MM') + interval '1 month') at time zone 'UTC' <= before
    loop
        execute format('drop table %s', partition);
        dropped := dropped + 1;
    end loop;
    delete from data_audit_rest where ctid in (select ctid from data_audit_rest where changed_at < before limit 10000);
    return dropped;
end $$;

-- Hangs on every table of every app, three times. Its own names begin with an underscore, as no field's name does. Whoever writes says who it is in the setting `weft.audit`, a JSON object, for the
-- length of the transaction.
create function weft_audit() returns trigger language plpgsql security definer set search_path from current as $$
#variable_conflict use_variable
declare
    _context json := nullif(current_setting('weft.audit', true), '')::json;
    _changed timestamptz := coalesce((_context->>'at')::timestamptz, clock_timestamp());
    _tenant text := _context->>'tenant';
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
    else
        insert into data_audit (tenant_id, app_id, entity, record_id, operation, old_record, actor_id, delegator_id, trigger_ref,
            trace_id, changed_at)
        select _tenant, tg_table_schema, tg_table_name, _old_rows.id::text, tg_op, row_to_json(_old_rows), (_context->>'actor')::uuid,
            (_context->>'delegator')::uuid, _context->>'trigger', _context->>'trace', _changed
        from _old_rows;
    end if;
    return null;
end $$;
