//! Values as names and texts, for query strings and forms: `a=1`, `a[b]=1`, and lists in the vendor's way of writing them.

use serde_json::Value;
use url::{Url, form_urlencoded};

use crate::{document::Arrays, template::as_text};

/// Adds what a value amounts to under a name. Null amounts to nothing.
pub fn flatten(name: &str, value: &Value, arrays: Arrays, pairs: &mut Vec<(String, String)>) {
    // A name may bring the brackets already that its list would be written with.
    let bare = name.strip_suffix("[]").filter(|_| value.is_array() && matches!(arrays, Arrays::Brackets | Arrays::Indices));
    spread(bare.unwrap_or(name), value, arrays, pairs);
}

fn spread(name: &str, value: &Value, arrays: Arrays, pairs: &mut Vec<(String, String)>) {
    match value {
        Value::Null => {}
        Value::Object(members) => {
            for (member, value) in members {
                spread(&format!("{name}[{member}]"), value, arrays, pairs);
            }
        }
        Value::Array(items) if arrays == Arrays::Comma && items.iter().all(|item| as_text(item).is_ok()) => {
            let items: Vec<_> = items.iter().filter_map(|item| as_text(item).ok()).collect();
            if !items.is_empty() {
                pairs.push((name.to_owned(), items.join(",")));
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                let name = match arrays {
                    Arrays::Brackets if !item.is_object() => format!("{name}[]"),
                    Arrays::Repeat if !item.is_object() => name.to_owned(),
                    _ => format!("{name}[{index}]"),
                };
                spread(&name, item, arrays, pairs);
            }
        }
        scalar => pairs.extend(as_text(scalar).ok().map(|text| (name.to_owned(), text))),
    }
}

/// Adds pairs to the query of an address. One without a query stays one.
pub fn append(url: &mut Url, pairs: &[(String, String)]) {
    if !pairs.is_empty() {
        url.query_pairs_mut().extend_pairs(pairs);
    }
}

/// Sets parameters of an address, in place of those of the same name.
pub fn replace(url: &mut Url, pairs: &[(String, String)]) {
    let replaced = |name: &str| pairs.iter().any(|(other, _)| other == name);
    let kept: Vec<(String, String)> = url
        .query_pairs()
        .filter(|(name, _)| !replaced(name))
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect();
    url.set_query(None);
    append(url, &kept);
    append(url, pairs);
}

/// The body of a form.
pub fn form(pairs: &[(String, String)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_are_written_as_the_vendor_wants_them() {
        let value = json!({ "a": [1, "x y"], "m": { "k": true, "none": null }, "l": [{ "p": 1 }], "e": [] });
        for (arrays, expected) in [
            (Arrays::Repeat, "f[a]=1&f[a]=x+y&f[l][0][p]=1&f[m][k]=true"),
            (Arrays::Brackets, "f[a][]=1&f[a][]=x+y&f[l][0][p]=1&f[m][k]=true"),
            (Arrays::Indices, "f[a][0]=1&f[a][1]=x+y&f[l][0][p]=1&f[m][k]=true"),
            (Arrays::Comma, "f[a]=1%2Cx+y&f[l][0][p]=1&f[m][k]=true"),
        ] {
            let mut pairs = Vec::new();
            flatten("f", &value, arrays, &mut pairs);
            pairs.sort_by(|one, other| one.0.cmp(&other.0));
            let written = form(&pairs).replace("%5B", "[").replace("%5D", "]");
            assert_eq!(written, expected, "{arrays:?}");
        }
    }

    #[test]
    fn brackets_in_a_name_are_not_written_twice() {
        for (arrays, expected) in [
            (Arrays::Repeat, "f[]=1&f[]=2"),
            (Arrays::Brackets, "f[]=1&f[]=2"),
            (Arrays::Indices, "f[0]=1&f[1]=2"),
            (Arrays::Comma, "f[]=1%2C2"),
        ] {
            let mut pairs = Vec::new();
            flatten("f[]", &json!([1, 2]), arrays, &mut pairs);
            assert_eq!(form(&pairs).replace("%5B", "[").replace("%5D", "]"), expected, "{arrays:?}");
        }
        let mut pairs = Vec::new();
        flatten("f", &json!([[1], [2]]), Arrays::Brackets, &mut pairs);
        assert_eq!(form(&pairs), "f%5B%5D%5B%5D=1&f%5B%5D%5B%5D=2");
    }

    #[test]
    fn replaced_parameters_stand_once() {
        let mut url = Url::parse("https://a.example/?page=1&q=a%26b").expect("an address");
        replace(&mut url, &[("page".to_owned(), "2".to_owned())]);
        assert_eq!(url.as_str(), "https://a.example/?q=a%26b&page=2");
    }
}
