//! Tollgate within a service: the four calls, one after the other, on the rules of `config/`, counting in memory. Run
//! with `cargo run --example embedded`; with `REDIS_URL=127.0.0.1:6379` before it, several of them share their counts.

use std::time::Duration;

use tollgate::{
    Embedded,
    settings::{Flags, Settings},
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/config").to_owned();
    let flags = Flags { rules: vec![rules], redis_url: std::env::var("REDIS_URL").ok(), ..Flags::default() };
    let tollgate = Embedded::open(&Settings::resolve(&flags)?).await?;

    for number in 1..=4 {
        println!("{number}. is_allowed: {}", tollgate.is_allowed("alice").await?);
    }
    println!("allow_request: {}", tollgate.allow_request("alice", "/checkout").await?);
    let answer = tollgate.rate_limit("alice", "login", 5, Duration::from_secs(60)).await?;
    println!("rate_limit: {}, {} remaining", answer.allowed, answer.remaining.unwrap_or_default());

    tollgate.configure_user_limit("alice", 1_000, Duration::from_secs(60)).await?;
    println!("is_allowed, with a limit of her own: {}", tollgate.is_allowed("alice").await?);
    tollgate.close(Duration::from_secs(5)).await;
    Ok(())
}
