-- Namespaces of a tenant, and the departments in them. A namespace's id is part of permission keys, so it follows their grammar.
create table namespaces (
    tenant_id text not null references tenants (id) on delete cascade,
    id text not null,
    name text not null,
    created_at timestamptz not null,
    primary key (tenant_id, id)
);

-- Departments are a tree. That it has no circle and is not too deep is seen to by whoever locks the namespace and changes it.
create table departments (
    tenant_id text not null,
    namespace_id text not null,
    id uuid not null,
    parent_id uuid,
    name text not null,
    created_at timestamptz not null,
    primary key (tenant_id, namespace_id, id),
    constraint departments_namespace foreign key (tenant_id, namespace_id) references namespaces (tenant_id, id),
    constraint departments_parent foreign key (tenant_id, namespace_id, parent_id)
        references departments (tenant_id, namespace_id, id),
    constraint departments_name unique nulls not distinct (tenant_id, namespace_id, parent_id, name)
);

create table department_members (
    tenant_id text not null,
    namespace_id text not null,
    department_id uuid not null,
    user_id uuid not null,
    added_at timestamptz not null,
    primary key (tenant_id, namespace_id, department_id, user_id),
    foreign key (tenant_id, namespace_id, department_id) references departments (tenant_id, namespace_id, id) on delete cascade,
    foreign key (tenant_id, user_id) references memberships (tenant_id, user_id) on delete cascade
);
create index department_members_user on department_members (tenant_id, user_id);

insert into permissions (tenant_id, key, description)
values
    ('default', 'namespaces:manage', 'canManageNamespaces: make, change and delete namespaces and their departments'),
    ('default', 'namespaces:plugins.manage', 'canManagePlugins: set up the plugins of every namespace');
