//! Flags that several commands share, applied over the configuration.

use std::time::Duration;

use super::{Config, ConfigError};
use crate::codec::moment::FORMS;

/// Parses a time in seconds, such as `0.5`.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let given: f64 = text.parse().map_err(|_| "want seconds, 0 or more".to_owned())?;
    Some(given)
        .filter(|seconds| seconds.is_finite() && (0.0..1e9).contains(seconds))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "want seconds, 0 or more".to_owned())
}

/// Returns the help of `--from`.
fn from(what: &str) -> String {
    format!(
        "Where a new {what} starts: earliest (the first entry of each stream), latest (the next one), after an entry, \
         or at a time: {FORMS}"
    )
}

/// The server, for commands that take nothing else of a service's settings.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct RedisFlag {
    /// Address of the Redis server; else REDIS_URL, REDIS_HOST and REDIS_PORT, or the configuration
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
}

impl RedisFlag {
    /// Returns the configuration with this flag applied.
    pub fn over(&self, config: &Config) -> Result<Config, ConfigError> {
        config.with_flags(self.redis.iter().map(|url| ("redis.url", url.clone())))
    }
}

/// The flags of `record`.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct RecordFlags {
    /// Address of the Redis server
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
    /// Folder of the journal
    #[arg(long, value_name = "DIR")]
    journal: Option<String>,
    #[arg(long, value_name = "earliest|latest|ID|TIME", help = from("journal"))]
    from: Option<String>,
}

impl RecordFlags {
    /// Returns the configuration with these flags applied.
    pub fn over(&self, config: &Config) -> Result<Config, ConfigError> {
        let flags = [("redis.url", &self.redis), ("run.journal", &self.journal), ("run.from", &self.from)];
        config.with_flags(flags.into_iter().filter_map(|(key, value)| Some((key, value.clone()?))))
    }
}

/// The flags of `run`, which `config` also takes.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct RunFlags {
    /// Address of the Redis server
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
    /// Folder of the store
    #[arg(long, value_name = "DIR")]
    store: Option<String>,
    /// Folder of the journal
    #[arg(long, value_name = "DIR")]
    journal: Option<String>,
    /// Consumer group
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// Name of the consumer within the group; it must stay the same
    #[arg(long, value_name = "NAME")]
    consumer: Option<String>,
    #[arg(long, value_name = "earliest|latest|ID|TIME", help = from("store"))]
    from: Option<String>,
    /// Address of the pages for health, metrics and positions; "" turns them off
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
}

impl RunFlags {
    /// Returns the configuration with these flags applied.
    pub fn over(&self, config: &Config) -> Result<Config, ConfigError> {
        let flags = [
            ("redis.url", &self.redis),
            ("run.store", &self.store),
            ("run.journal", &self.journal),
            ("run.group", &self.group),
            ("run.consumer", &self.consumer),
            ("run.from", &self.from),
            ("run.listen", &self.listen),
        ];
        config.with_flags(flags.into_iter().filter_map(|(key, value)| Some((key, value.clone()?))))
    }
}
