//! Waiting for what comes to be by itself.

use std::time::Duration;

/// Asks until there is an answer, for what follows a request soon but not before its reply.
pub async fn eventually<T>(what: &str, ask: impl AsyncFn() -> Option<T>) -> T {
    let asking = async {
        loop {
            match ask().await {
                Some(found) => return found,
                None => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    // Longer than a busy machine takes for what the server does twice a minute.
    tokio::time::timeout(Duration::from_mins(2), asking).await.unwrap_or_else(|_| panic!("it never came to be: {what}"))
}
