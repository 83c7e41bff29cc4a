//! The fake Slack as a program, for demonstrations: `fake-slack [PORT] [TOKEN]`.
//!
//! Prints one line with its address and serves until it is stopped. `GET /_requests` lists what has arrived.

use std::error::Error;

use weft_testkit::slack::FakeSlack;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let port = arguments.next().map_or(Ok(0), |text| text.parse()).map_err(|_| "usage: fake-slack [PORT] [TOKEN]")?;
    let slack = FakeSlack::start_on(port).await?;
    if let Some(token) = arguments.next() {
        slack.add_token(&token);
    }
    println!("fake slack on {}", slack.api_url());
    Ok(slack.run().await?)
}
