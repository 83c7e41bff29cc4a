//! What a manifest must keep to beyond its shape: unique names, references that lead somewhere, usable schemas.

use std::collections::HashSet;

use super::{Action, AppKind, Content, Cron, Effect, PAYLOAD_LIMIT, polls};
use crate::{Fault, contract, schedule::Schedule, schema::Schema};

/// App ids that would collide with the platform's or the database's own names.
const RESERVED: [&str; 8] = ["core", "public", "information_schema", "weft", "pgmq", "cron", "default", "catalog"];

/// Ids of actions whose permission would be a right over the whole integration: `integration:{app}:manage`.
const RIGHTS: [&str; 2] = ["manage", "proxy"];

/// Every rule that `content` breaks.
pub fn faults(content: &Content) -> Vec<Fault> {
    let mut faults = Vec::new();
    let app_id = content.app_id.as_str();
    if RESERVED.contains(&app_id) || app_id.starts_with("pg_") || app_id.starts_with("weft_") {
        faults.push(Fault::new("$.appId", format!("'{app_id}' is reserved: choose another id")));
    }
    if content.icon.as_deref().is_some_and(|icon| icon.starts_with('/') || icon.split('/').any(|part| part == "..")) {
        faults.push(Fault::new("$.icon", "must be a relative path inside the project"));
    }
    if content.kind != AppKind::Integration && content.user_auth.is_some() {
        faults.push(Fault::new("$.userAuth", "only a manifest of type \"integration\" has user authentication"));
    }
    if let Some(user_auth) = &content.user_auth {
        faults.extend(user_auth.faults(&content.config_fields()));
    }
    unique(&mut faults, "actions", "id", content.actions.iter().map(|action| action.id.as_str()));
    unique(&mut faults, "webhooks", "name", content.webhooks.iter().map(|webhook| webhook.name.as_str()));
    unique(&mut faults, "crons", "name", content.crons.iter().map(|cron| cron.name.as_str()));
    for (index, cron) in content.crons.iter().enumerate() {
        cron_faults(&mut faults, index, cron);
    }
    unique(&mut faults, "syncs", "name", content.syncs.iter().map(|sync| sync.poll.name.as_str()));
    unique(&mut faults, "triggers", "name", content.triggers.iter().map(|trigger| trigger.poll.name.as_str()));
    for (list, is_empty) in [("syncs", content.syncs.is_empty()), ("triggers", content.triggers.is_empty())] {
        if content.kind != AppKind::Integration && !is_empty {
            faults.push(Fault::new(format!("$.{list}"), "only a manifest of type \"integration\" has these"));
        }
    }
    faults.extend(polls::faults(content));
    if let Some(schema) = &content.config_schema {
        usable(&mut faults, "$.configSchema", schema);
    }
    for (index, action) in content.actions.iter().enumerate() {
        action_faults(&mut faults, index, action);
    }
    faults.extend(contract::faults(&content.data_contract));
    faults
}

fn unique<'a>(faults: &mut Vec<Fault>, list: &str, key: &str, names: impl Iterator<Item = &'a str>) {
    let mut seen = HashSet::new();
    for (index, name) in names.enumerate() {
        if !seen.insert(name) {
            faults.push(Fault::new(format!("$.{list}[{index}].{key}"), format!("'{name}' is declared twice")));
        }
    }
}

fn usable(faults: &mut Vec<Fault>, path: &str, schema: &serde_json::Value) {
    if let Err(error) = Schema::compile(schema) {
        faults.push(Fault::new(path, error.to_string()));
    }
}

fn action_faults(faults: &mut Vec<Fault>, index: usize, action: &Action) {
    let refusal = match action.id.as_str() {
        id if id.starts_with("__") => Some("ids that start with '__' belong to the platform".to_owned()),
        id if RIGHTS.contains(&id) => Some(format!("'{id}' is a right over the integration itself: choose another id")),
        id if id.contains('*') => Some("'*' stands for all actions in permissions: choose another id".to_owned()),
        _ => None,
    };
    faults.extend(refusal.map(|message| Fault::new(format!("$.actions[{index}].id"), message)));
    if action.cache_seconds.is_some() && !matches!(action.effect, Some(Effect::Read | Effect::Search)) {
        let message = "only for actions whose effect is \"read\" or \"search\"";
        faults.push(Fault::new(format!("$.actions[{index}].cacheSeconds"), message));
    }
    for (key, schema) in [("inputSchema", &action.input_schema), ("outputSchema", &action.output_schema)] {
        if let Some(schema) = schema {
            usable(faults, &format!("$.actions[{index}].{key}"), schema);
        }
    }
}

fn cron_faults(faults: &mut Vec<Fault>, index: usize, cron: &Cron) {
    if let Err(error) = Schedule::parse(&cron.schedule, cron.timezone.as_deref()) {
        faults.push(Fault::new(format!("$.crons[{index}].{}", error.key()), error.to_string()));
    }
    if cron.payload.as_ref().is_some_and(|payload| !payload.is_object()) {
        faults.push(Fault::new(format!("$.crons[{index}].payload"), "must be an object: the job gets more members in it"));
    } else if cron.payload.as_ref().is_some_and(|payload| payload.to_string().len() > PAYLOAD_LIMIT) {
        faults.push(Fault::new(format!("$.crons[{index}].payload"), "has more than 1 MiB: pass a reference instead"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::Manifest;

    #[test]
    fn a_small_manifest_is_enough() {
        let manifest = Manifest::parse(json!({ "appId": "crm", "name": "CRM" })).expect("no faults");
        assert_eq!(manifest.content.version, "0.0.1");
    }

    #[test]
    fn every_fault_is_reported_at_once() {
        let shape = Manifest::parse(json!({
            "appId": "My-App",
            "type": "plugin",
            "actions": [{ "id": "Send", "name": "Send" }, { "name": 5 }],
            "dataContract": [{ "entityName": "contacts", "fields": [{ "name": "a", "type": "sting" }], "identityKind": "person" }],
            "crons": [{ "name": "sync", "schedule": "hourly" }],
        }))
        .expect_err("many faults");
        let paths: Vec<_> = shape.iter().map(|fault| fault.path.as_str()).collect();
        for path in [
            "$",
            "$.appId",
            "$.type",
            "$.actions[0].id",
            "$.actions[1]",
            "$.actions[1].name",
            "$.dataContract[0]",
            "$.dataContract[0].fields[0].type",
            "$.crons[0].schedule",
        ] {
            assert!(paths.contains(&path), "{path} in {paths:?}");
        }
    }

    #[test]
    fn no_action_is_named_as_a_right_over_the_integration() {
        let faults = |id: &str| {
            let manifest =
                json!({ "appId": "crm", "name": "CRM", "type": "integration", "actions": [{ "id": id, "name": "A" }] });
            Manifest::parse(manifest).err().unwrap_or_default()
        };
        for id in ["manage", "proxy", "*", "contacts.*", "__run"] {
            let faults = faults(id);
            assert_eq!(faults.iter().map(|fault| fault.path.as_str()).collect::<Vec<_>>(), ["$.actions[0].id"], "{id}");
        }
        assert_eq!(faults("manage_contacts"), []);
        assert_eq!(faults("contacts.manage"), []);
    }

    #[test]
    fn rules_beyond_the_shape_are_reported_at_once() {
        let faults = Manifest::parse(json!({
            "appId": "pg_app",
            "name": "X",
            "actions": [{ "id": "a", "name": "A", "inputSchema": { "type": "strnig" } }, { "id": "a", "name": "B" }],
            "webhooks": ["m", { "name": "m" }],
            "dataContract": [{
                "entityName": "deals",
                "fields": [
                    { "name": "company", "type": "entity_link", "references": { "entity": "companies" } },
                    { "name": "owner", "type": "entity_link", "references": { "entity": "core:users" } },
                    { "name": "other", "type": "entity_link", "references": { "entity": "crm:contacts" } },
                ],
            }],
        }))
        .expect_err("many faults");
        let paths: Vec<_> = faults.iter().map(|fault| fault.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "$.appId",
                "$.actions[1].id",
                "$.webhooks[1].name",
                "$.actions[0].inputSchema",
                "$.dataContract[0].fields[0].references.entity",
                "$.dataContract[0].fields[2].references.entity",
            ]
        );
    }

    #[test]
    fn integrations_run_on_demand_and_all_others_always_unless_they_say_otherwise() {
        let keeps = |more: serde_json::Value| {
            let mut manifest = json!({ "appId": "x", "name": "X" });
            manifest.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
            Manifest::parse(manifest).expect("no faults").content.keeps_running()
        };
        assert!(keeps(json!({})) && keeps(json!({ "type": "agent" })));
        assert!(!keeps(json!({ "type": "integration" })) && !keeps(json!({ "keepRunning": false })));
        assert!(keeps(json!({ "type": "integration", "keepRunning": true })));
    }

    #[test]
    fn crons_need_a_schedule_that_comes_a_known_zone_and_an_object() {
        let cron = |more: serde_json::Value| {
            let mut cron = json!({ "name": "sync", "schedule": "0 9 * * *" });
            cron.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
            Manifest::parse(json!({ "appId": "x", "name": "X", "crons": [cron] }))
        };
        let good = cron(json!({ "timezone": "Europe/Berlin", "method": "sync", "payload": { "n": 1 } })).expect("no faults");
        let payload = good.content.crons.first().map(super::Cron::merged_payload);
        assert_eq!(payload.map(serde_json::Value::Object), Some(json!({ "n": 1, "method": "sync" })));
        for (more, key) in [
            (json!({ "schedule": "0 0 31 2 *" }), "schedule"),
            (json!({ "schedule": "99 * * * *" }), "schedule"),
            (json!({ "timezone": "Mars/Olympus" }), "timezone"),
            (json!({ "payload": [1] }), "payload"),
        ] {
            let faults = cron(more).expect_err("a fault");
            assert_eq!(faults.iter().map(|fault| fault.path.clone()).collect::<Vec<_>>(), [format!("$.crons[0].{key}")]);
        }
    }

    #[test]
    fn limits_are_checked() {
        let limits = |limits: serde_json::Value| Manifest::parse(json!({ "appId": "x", "name": "X", "limits": limits }));
        assert_eq!(limits(json!({ "memoryMib": 128 })).expect("no faults").content.limits.memory_mib, Some(128));
        for wrong in [json!({ "memoryMib": 1 }), json!({ "memoryMib": "128" }), json!({ "memory": 128 })] {
            assert!(limits(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_webhook_may_be_a_name_or_name_a_method() {
        let manifest = Manifest::parse(json!({ "appId": "x", "name": "X", "webhooks": ["a", { "name": "b", "method": "onB" }] }))
            .expect("no faults");
        let methods: Vec<_> = manifest.content.webhooks.iter().map(|webhook| webhook.method.as_str()).collect();
        assert_eq!(methods, ["__webhook", "onB"]);
    }
}
