-- Who leased a message, so that what a server held that is gone need not wait until its lease runs out. Looked at only then.
alter table queue_messages add column holder uuid;
