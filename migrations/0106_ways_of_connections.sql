-- An integration may be connected in several ways. By which of them a connection was made, and is about to be; absent: the first.
alter table connections add column way text;
alter table connection_flows add column way text;
