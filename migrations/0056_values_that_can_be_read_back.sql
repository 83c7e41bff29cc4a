-- What PostgreSQL reads as a number or a time and JSON cannot write becomes null when the type of a column changes.
create or replace function weft_try_number(value text) returns double precision language plpgsql immutable as $$
declare
    number double precision := value::double precision;
begin
    return case when number in ('NaN', 'Infinity', '-Infinity') then null else number end;
exception when others then return null; end $$;
create or replace function weft_try_date(value text) returns date language plpgsql stable as $$
declare
    day date := value::date;
begin
    return case when isfinite(day) and day between '0001-01-01' and '9999-12-31' then day end;
exception when others then return null; end $$;
create or replace function weft_try_timestamp(value text) returns timestamptz language plpgsql stable as $$
declare
    moment timestamptz := value::timestamptz;
begin
    return case when isfinite(moment) and moment >= '0001-01-01+00' and moment < '10000-01-01+00' then moment end;
exception when others then return null; end $$;
