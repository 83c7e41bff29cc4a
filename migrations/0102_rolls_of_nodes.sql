-- The limits of jobs hold for all nodes together: each node works by a roll of all of them, and says by which. See ADR 65.
alter table nodes add column roll text;

create function weft_announce_nodes() returns trigger language plpgsql as $$
begin
    perform pg_notify(weft_channel('weft_changes'), 'nodes');
    return null;
end $$;
create trigger weft_announce_nodes after insert or delete or update of roll on nodes
    for each statement execute function weft_announce_nodes();
