//! What the server has to know of a vendor's OAuth 1.0a (RFC 5849). In addresses `{name}` stands for a field of the configuration.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use weft_recipe::oauth1::SignatureMethod;

use super::{ConfigField, fields::address_fault};
use crate::Fault;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OAuth1 {
    /// Where a temporary token is got.
    pub request_token_url: String,
    /// Where people agree.
    pub authorize_url: String,
    /// Where it becomes one that stays.
    pub access_token_url: String,
    #[serde(default)]
    pub signature_method: SignatureMethod,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra_authorize_params: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub realm: Option<String>,
    /// The field of the configuration that holds the client's key.
    #[serde(default = "consumer_key")]
    pub consumer_key: String,
    #[serde(default = "consumer_secret")]
    pub consumer_secret: String,
    /// The parameter of the vendor's last answer that names the account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

impl OAuth1 {
    /// What is wrong with it beyond its shape.
    pub(super) fn check(&self, config: &[ConfigField], faults: &mut Vec<Fault>) {
        let known = |name: &str| config.iter().any(|field| field.name == name);
        for (place, field) in [("consumerKey", &self.consumer_key), ("consumerSecret", &self.consumer_secret)] {
            if !known(field) {
                let message = format!("configSchema has no field '{field}', which is to hold it");
                faults.push(Fault::new(format!("$.userAuth.{place}"), message));
            }
        }
        let urls = [
            ("requestTokenUrl", &self.request_token_url),
            ("authorizeUrl", &self.authorize_url),
            ("accessTokenUrl", &self.access_token_url),
        ];
        for (place, url) in urls {
            faults.extend(address_fault(url, known).map(|fault| Fault::new(format!("$.userAuth.{place}"), fault)));
        }
    }
}

fn consumer_key() -> String {
    "consumerKey".to_owned()
}

fn consumer_secret() -> String {
    "consumerSecret".to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::Manifest;

    #[test]
    fn faults_name_their_place() {
        let paths = |auth: serde_json::Value| {
            let fields =
                json!({ "consumerKey": { "type": "string" }, "consumerSecret": { "type": "string", "platformSecret": "S" } });
            let manifest = json!({
                "appId": "x", "name": "X", "type": "integration", "userAuth": auth, "configSchema": { "properties": fields },
            });
            let faults = Manifest::parse(manifest).err().unwrap_or_default();
            faults.into_iter().map(|fault| fault.path).collect::<Vec<_>>()
        };
        let auth = |more: serde_json::Value| {
            let mut auth = json!({
                "type": "oauth1", "requestTokenUrl": "https://v.example/a", "authorizeUrl": "https://v.example/b",
                "accessTokenUrl": "https://v.example/c",
            });
            auth.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
            auth
        };
        assert!(paths(auth(json!({ "signatureMethod": "HMAC-SHA256", "label": "screen_name" }))).is_empty());
        assert_eq!(paths(auth(json!({ "consumerKey": "key" }))), ["$.userAuth.consumerKey"]);
        assert_eq!(paths(auth(json!({ "authorizeUrl": "https://{host}/" }))), ["$.userAuth.authorizeUrl"]);
        assert_eq!(paths(auth(json!({ "accessTokenUrl": "ftp://x" }))), ["$.userAuth.accessTokenUrl"]);
        assert!(!paths(auth(json!({ "signatureMethod": "RSA-SHA1" }))).is_empty());
    }
}
