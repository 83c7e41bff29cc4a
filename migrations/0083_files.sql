-- Files of apps. What they hold is in a store of objects, sealed in pieces with the tenant's key; here is what they are called.
create table files (
    id uuid primary key,
    tenant_id text not null references tenants (id) on delete cascade,
    app_id text not null references apps (id) on delete cascade,
    -- Given by whoever uploaded it: it never becomes a part of a path.
    name text not null,
    -- What the content is, as far as its first bytes show, else what was said.
    content_type text not null,
    size bigint not null default 0,
    -- SHA-256 of the content.
    digest bytea,
    key_version integer,
    -- Absent while it is being uploaded.
    completed_at timestamptz,
    uploaded_by uuid,
    created_at timestamptz not null
);
create index files_app on files (tenant_id, app_id, id desc) where completed_at is not null;
create index files_unfinished on files (created_at) where completed_at is null;

-- What every tenant's files have in bytes together, so that nobody has to count.
create table file_usage (
    tenant_id text primary key references tenants (id) on delete cascade,
    bytes bigint not null
);

-- Objects whose file is gone, by whatever way it went. They are removed from the store, then from here. No tenant in it: it outlives its rows.
create table file_remains (
    object text primary key,
    since timestamptz not null
);

-- The name of a file's object. The last two characters of an identifier are random, so no folder gets too full.
create function weft_file_object(tenant_id text, id uuid) returns text language sql immutable as $$
    select tenant_id || '/' || right(id::text, 2) || '/' || id::text
$$;

create function weft_file_gone() returns trigger language plpgsql as $$
begin
    insert into file_remains (object, since) select weft_file_object(tenant_id, id), clock_timestamp() from _gone on conflict do nothing;
    update file_usage set bytes = file_usage.bytes - gone.bytes
    from (select tenant_id, sum(size) as bytes from _gone where completed_at is not null group by tenant_id) as gone
    where file_usage.tenant_id = gone.tenant_id;
    return null;
end $$;
create trigger weft_file_gone after delete on files referencing old table as _gone for each statement execute function weft_file_gone();

-- Addresses that let somebody in once, found by the digest of what is unguessable in them.
create table file_tickets (
    digest bytea primary key,
    tenant_id text not null references tenants (id) on delete cascade,
    app_id text not null references apps (id) on delete cascade,
    -- The file to download; absent for an upload.
    file_id uuid references files (id) on delete cascade,
    name text,
    content_type text,
    -- Bytes that an upload may have at most.
    most bigint,
    issued_to uuid,
    expires_at timestamptz not null
);
create index file_tickets_expiry on file_tickets (expires_at);

-- For apps that are installed already.
insert into permissions (tenant_id, key, description, source_app)
select tenant_id, 'app:' || id || ':file.' || right_name, 'Files of ' || name || ': ' || right_name, id
from apps cross join (values ('read'), ('write')) as missing (right_name)
on conflict do nothing;
