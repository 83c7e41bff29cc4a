-- The hosts that the backend connected to while the run was its only call, as host:port.
alter table runs add column hosts text[] not null default '{}';
