-- Whether a version's backend has a handler for jobs, as its process said when it started; null where none has said so yet. So every
-- node knows it, also where the backend does not run. See ADR 61.
alter table deployments add column takes_jobs boolean;
