-- A webhook whose server died before it answered is handed over again, so what the sender sent has to be kept as it was, its
-- credentials included. Therefore it is sealed. Requests kept until now are in clear and were handled: nothing needs them.
delete from webhook_deliveries;
alter table webhook_deliveries
    drop column headers,
    drop column body,
    add column key_version integer not null,
    add column sealed bytea not null;
create unique index webhook_deliveries_run on webhook_deliveries (run_id);

-- A caller may put anything into an Idempotency-Key. Comparing digests is enough.
update idempotency_keys set key = encode(sha256(convert_to(key, 'UTF8')), 'hex');
