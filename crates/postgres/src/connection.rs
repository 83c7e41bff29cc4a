//! How to reach the running cluster, for whichever client library the caller uses.

use std::fmt::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Where the cluster listens and how to log in. Holds a password: `Debug` hides it, [`Connection::url`] shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Connection {
    /// The folder that holds the socket.
    pub socket_dir: PathBuf,
    /// Only a part of the socket's file name; no TCP port is open.
    pub port: u16,
    pub user: String,
    pub password: String,
    pub database: String,
}

impl Connection {
    /// The connection as a URL that libpq and sqlx understand.
    #[must_use]
    pub fn url(&self) -> String {
        format!(
            "postgres://{}:{}@{}:{}/{}",
            percent_encoded(self.user.as_bytes()),
            percent_encoded(self.password.as_bytes()),
            percent_encoded(self.socket_dir.as_os_str().as_bytes()),
            self.port,
            percent_encoded(self.database.as_bytes()),
        )
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Connection")
            .field("socket_dir", &self.socket_dir)
            .field("port", &self.port)
            .field("user", &self.user)
            .field("database", &self.database)
            .finish_non_exhaustive()
    }
}

fn percent_encoded(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, &byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(text, "%{byte:02X}");
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection() -> Connection {
        Connection {
            socket_dir: PathBuf::from("/srv/my data/run"),
            port: 5432,
            user: "weft".to_owned(),
            password: "s3cret/".to_owned(),
            database: "weft".to_owned(),
        }
    }

    #[test]
    fn url_escapes_what_would_break_it() {
        assert_eq!(connection().url(), "postgres://weft:s3cret%2F@%2Fsrv%2Fmy%20data%2Frun:5432/weft");
    }

    #[test]
    fn debug_output_hides_the_password() {
        assert!(!format!("{:?}", connection()).contains("s3cret"));
    }
}
