-- The permissions about jobs and crons that apps declare from now on, for those that are installed already.
insert into permissions (tenant_id, key, description, source_app)
select tenant_id, 'app:' || id || ':' || right_name, replace(what, '$', name), id
from apps cross join (values
    ('job.read', 'See everybody''s jobs of $'),
    ('job.manage', 'Cancel everybody''s jobs of $ and try them again'),
    ('cron.manage_others', 'Crons of $: manage_others')) as missing (right_name, what)
on conflict do nothing;
