-- Frontends of apps: the files that their users' browsers load, kept here like archives so that every node serves them.
create table frontends (
    app_id text primary key references apps (id) on delete cascade,
    digest bytea not null,
    deployed_by uuid not null,
    deployed_at timestamptz not null
);

create table frontend_files (
    app_id text not null references frontends (app_id) on delete cascade,
    path text not null,
    -- The beginning of the content's SHA-256, for ETag.
    tag text not null,
    body bytea not null,
    -- The same, compressed once, where that is shorter.
    gzipped bytea,
    primary key (app_id, path)
);
-- What is compressed already needs no second attempt.
alter table frontend_files alter column body set storage external, alter column gzipped set storage external;
