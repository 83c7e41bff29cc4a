-- How far the budgets of vendors are spent, which several nodes share: until when each is spoken for, in microseconds of the epoch.
-- Rows say nothing once that moment is over. Unlogged, because taking from a budget is not worth a flush of the disk: what a crash of
-- the database forgets is one share of calls that may come at once. No foreign keys: a row of nobody is removed like any other. See ADR 82.
create unlogged table vendor_budgets (
    tenant_id     text   not null,
    provider      text   not null,
    -- All zeros where all accounts of the tenant share the budget.
    connection_id uuid   not null,
    arrival       bigint not null,
    primary key (tenant_id, provider, connection_id)
);
