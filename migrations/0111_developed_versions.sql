-- Versions that were made while somebody worked on the app: each saved file makes one, so they do not push out those to go back to.
alter table deployments add column developed boolean not null default false;
