-- Buckets: files of a tenant that belong to no app, in folders. What a file holds, its size and its quota are as for any other file; here
-- is where it stands and what it is called now.
alter table files alter column app_id drop not null;

create table storage_buckets (
    tenant_id text not null references tenants (id) on delete cascade,
    name text not null,
    -- Everybody who is logged in may read its files.
    public boolean not null,
    -- In bytes; absent: as large as any file.
    max_file_size bigint check (max_file_size > 0),
    -- Media types, or all of a kind: `image/*`. Absent: any.
    allowed_types text[],
    created_at timestamptz not null,
    primary key (tenant_id, name)
);

create table storage_objects (
    id uuid primary key,
    tenant_id text not null,
    bucket text not null,
    -- The folder that it is in; absent: the bucket itself.
    parent_id uuid references storage_objects (id) on delete cascade,
    name text not null,
    -- Absent: it is a folder.
    file_id uuid unique references files (id) on delete cascade,
    created_by uuid,
    created_at timestamptz not null,
    foreign key (tenant_id, bucket) references storage_buckets (tenant_id, name)
);
-- Lists: folders first, then by name.
create index storage_objects_place on storage_objects
    (tenant_id, bucket, coalesce(parent_id, '00000000-0000-0000-0000-000000000000'), (file_id is not null), name);
-- One of a name in a folder.
create unique index storage_objects_name on storage_objects
    (tenant_id, bucket, coalesce(parent_id, '00000000-0000-0000-0000-000000000000'), name);
create index storage_objects_parent on storage_objects (parent_id) where parent_id is not null;

-- However an object goes, alone or with its folder, its file goes with it.
create function weft_storage_object_gone() returns trigger language plpgsql as $$
begin
    delete from files where id in (select file_id from _gone where file_id is not null);
    return null;
end $$;
create trigger weft_storage_object_gone after delete on storage_objects referencing old table as _gone
    for each statement execute function weft_storage_object_gone();

-- Every tenant has the bucket `default`.
create function weft_default_bucket() returns trigger language plpgsql as $$
begin
    insert into storage_buckets (tenant_id, name, public, created_at) values (new.id, 'default', false, new.created_at) on conflict do nothing;
    return null;
end $$;
create trigger weft_default_bucket after insert on tenants for each row execute function weft_default_bucket();
insert into storage_buckets (tenant_id, name, public, created_at) select id, 'default', false, created_at from tenants;

insert into permissions (tenant_id, key, description) values
    ('default', 'storage:read', 'Read the files of all buckets'),
    ('default', 'storage:write', 'Upload, rename and move files in all buckets'),
    ('default', 'storage:delete', 'Delete files in all buckets'),
    ('default', 'storage:admin', 'Make and delete buckets')
on conflict do nothing;
