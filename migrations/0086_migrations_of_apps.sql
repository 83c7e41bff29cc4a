-- Which migrations of an app were applied. Written in the transaction of the file itself, by the role that ran it.
create table schema_migrations (
    app_id text not null references apps (id) on delete cascade,
    file text not null,
    digest bytea not null,
    applied_at timestamptz not null,
    primary key (app_id, file)
);

create function weft_sql.migrated(file text, digest bytea) returns void language plpgsql security definer set search_path from current as $$
declare
    said jsonb := weft_sql.identity();
begin
    if said->>'trigger' is distinct from 'migration' then
        raise exception 'a migration must not end the transaction that it runs in';
    end if;
    insert into schema_migrations (app_id, file, digest, applied_at)
    values (said->>'app', migrated.file, migrated.digest, (said->>'at')::timestamptz);
end $$;
