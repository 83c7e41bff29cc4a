-- Messages of a lane with the same key are worked on one after the other, in the order of their identifiers. All but the first have the
-- state 3, held back, and a time that never comes, so that nobody walks over them; whatever ends the first makes the next one ready.
alter table queue_messages add column order_key text;
create index queue_ordered on queue_messages (lane, order_key, id) where order_key is not null;
