//! The rights that exist because an app is installed.

use weft_model::{Manifest, contract::Access, manifest::AppKind};

/// The permission keys that an app brings along, each with its meaning.
pub fn permissions(manifest: &Manifest) -> Vec<(String, String)> {
    let content = &manifest.content;
    let (app, name) = (&content.app_id, &content.name);
    let mut keys = vec![
        (format!("app:{app}:invoke"), format!("Call the backend of {name}")),
        (format!("app:{app}:webhook.read"), format!("See the webhook URLs of {name}")),
    ];
    keys.push((format!("app:{app}:job.read"), format!("See everybody's jobs of {name}")));
    keys.push((format!("app:{app}:job.manage"), format!("Cancel everybody's jobs of {name} and try them again")));
    for right in ["read", "write", "trigger", "manage_others"] {
        keys.push((format!("app:{app}:cron.{right}"), format!("Crons of {name}: {right}")));
    }
    for right in ["read", "write", "manage_others"] {
        keys.push((format!("app:{app}:hook.{right}"), format!("Hooks of {name}: {right}")));
    }
    for right in ["read", "write"] {
        keys.push((format!("app:{app}:file.{right}"), format!("Files of {name}: {right}")));
    }
    for entity in &content.data_contract {
        for right in ["create", "read", "update", "delete"] {
            keys.push((format!("app:{app}:{}.{right}", entity.entity_name), format!("{name}: {right} {}", entity.entity_name)));
        }
        if entity.access == Access::Owner {
            let meaning = format!("{name}: see and change {} of everybody", entity.entity_name);
            keys.push((format!("app:{app}:{}.manage", entity.entity_name), meaning));
        }
    }
    for action in &content.actions {
        keys.push((format!("app:{app}:action:{}", action.id), format!("{name}: {}", action.name)));
        if content.kind == AppKind::Integration {
            keys.push((format!("integration:{app}:{}", action.id), format!("{name}: {}", action.name)));
        }
    }
    if content.kind == AppKind::Integration {
        keys.push((format!("integration:{app}:manage"), format!("Configure {name}")));
    }
    if content.http.is_some() {
        keys.push((format!("integration:{app}:proxy"), format!("Send any request to {name}, with its credential")));
    }
    for custom in &content.permissions.permissions {
        keys.push((format!("app:{app}:{}", custom.key), custom.description.clone()));
    }
    keys
}
