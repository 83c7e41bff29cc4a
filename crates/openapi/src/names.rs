//! Names for the platform out of names and sentences of a document.

/// A name of lower-case letters, digits and underscores that begins with a letter: `List repos` and `listRepos` are `list_repos`.
pub fn identifier(text: &str) -> String {
    let mut name = String::new();
    let mut before = ' ';
    for letter in text.chars() {
        let begins_word = letter.is_ascii_uppercase() && (before.is_ascii_lowercase() || before.is_ascii_digit());
        let separates = !letter.is_ascii_alphanumeric() || begins_word;
        if separates && !name.is_empty() && !name.ends_with('_') {
            name.push('_');
        }
        if letter.is_ascii_alphanumeric() {
            name.push(letter.to_ascii_lowercase());
        }
        before = letter;
    }
    let name = name.trim_matches('_');
    let name: String = name.chars().take(60).collect();
    match name.trim_end_matches('_') {
        "" => "api".to_owned(),
        name if name.starts_with(|first: char| first.is_ascii_digit()) => format!("n{name}"),
        name => name.to_owned(),
    }
}

/// The id of an action. Two names are rights over an integration as a whole.
pub fn action(text: &str) -> String {
    let name = identifier(text);
    if ["manage", "proxy"].contains(&name.as_str()) { format!("vendor_{name}") } else { name }
}

/// `list_repos` as people write it: `List repos`.
pub fn title(name: &str) -> String {
    let words = name.replace('_', " ");
    let mut letters = words.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

pub fn cut(text: &str, longest: usize) -> String {
    let text = text.trim();
    match text.char_indices().nth(longest) {
        Some((end, _)) => text.get(..end).unwrap_or_default().trim_end().to_owned(),
        None => text.to_owned(),
    }
}

/// What stands before the first empty line, in one line.
pub fn first_paragraph(text: &str) -> String {
    let lines = text.trim().lines().map(str::trim).take_while(|line| !line.is_empty());
    cut(&lines.collect::<Vec<_>>().join(" "), 500)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_of_whatever_is_written() {
        for (text, expected) in [
            ("listRepos", "list_repos"),
            ("repos/list-for-user", "repos_list_for_user"),
            ("GET /users/{id}", "get_users_id"),
            ("Swagger Petstore - OpenAPI 3.0", "swagger_petstore_open_api_3_0"),
            ("2fa.enable", "n2fa_enable"),
            ("é!", "api"),
        ] {
            assert_eq!(identifier(text), expected);
        }
        assert_eq!(
            (action("Manage"), action("proxy/"), action("manage-users")),
            ("vendor_manage".to_owned(), "vendor_proxy".to_owned(), "manage_users".to_owned())
        );
        assert_eq!(title("list_repos"), "List repos");
        assert_eq!(first_paragraph(" Keeps\npets.\n\nAnd more."), "Keeps pets.");
    }
}
