-- A full run of a sync that would delete most of what was there stops and asks. Whether somebody has said that the next one may. See ADR 63.
alter table polls add column deletions_confirmed boolean not null default false;
