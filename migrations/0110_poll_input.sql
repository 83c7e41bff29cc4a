-- What whoever a sync or a trigger belongs to wants to ask for, besides what the manifest says: which channel, which folder.
alter table polls add column input jsonb not null default '{}' check (jsonb_typeof(input) = 'object');
