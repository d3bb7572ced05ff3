//! The lease: the right to read from the group and to emit decisions, with a fencing token that only grows.

use std::time::Duration;

use redis::Script;

use super::claims::Claim;
use super::server::{Server, ServerError};

/// Takes the lease if it is free, or if a process of the same consumer had it. The token grows by one with each holder.
/// Returns whether it was taken, and its value.
const TAKE: &str = r"
local held = redis.call('GET', KEYS[1])
if held and (ARGV[3] == '' or string.match(held, '^%d+ (.*) %x+$') ~= ARGV[3]) then return {0, held} end
local token = redis.call('INCR', KEYS[2])
local value = token .. ' ' .. ARGV[1]
redis.call('SET', KEYS[1], value, 'PX', ARGV[2])
return {1, value}";

/// Extends the lease if it is ours.
const RENEW: &str = r"
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1";

/// Releases the lease if it is ours.
const RELEASE: &str = r"
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])";

/// Keys of the lease. They are named after the decision stream, so two groups that write to it exclude each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseKeys {
    pub lease: String,
    pub token: String,
}

impl LeaseKeys {
    pub fn beside(decision_stream: &str) -> Self {
        Self { lease: format!("{decision_stream}:lease"), token: format!("{decision_stream}:token") }
    }
}

/// The lease as one contender sees it.
pub struct Lease {
    server: Server,
    keys: LeaseKeys,
    owner: String,
    /// Duration of the lease without a renewal.
    lasts: Duration,
    value: Option<String>,
}

impl Lease {
    pub fn new(server: Server, keys: LeaseKeys, owner: String, lasts: Duration) -> Self {
        Self { server, keys, owner, lasts, value: None }
    }

    /// Continues with another connection, and keeps the lease that it has.
    pub fn reconnected(self, server: Server) -> Self {
        Self { server, ..self }
    }

    /// Takes the lease, or extends it. If `inherits_from` names a consumer, its lease is taken over without waiting.
    ///
    /// Returns the value if the lease is ours, and its present value: `token consumer nonce`.
    pub async fn take_or_renew(
        &mut self,
        inherits_from: Option<&str>,
    ) -> Result<(Option<String>, Option<String>), ServerError> {
        let lasts_ms = self.lasts.as_millis() as u64;
        if let Some(value) = self.value.clone() {
            let script = Script::new(RENEW);
            let mut call = script.key(&self.keys.lease);
            let renewed = call.arg(&value).arg(lasts_ms).invoke_async(&mut self.server.connection.clone()).await;
            if self.done::<u8>(renewed, "to renew")? == 1 {
                return Ok((Some(value.clone()), Some(value)));
            }
            self.value = None;
        }
        let script = Script::new(TAKE);
        let mut call = script.key(&self.keys.lease);
        let call = call.key(&self.keys.token).arg(&self.owner).arg(lasts_ms).arg(inherits_from.unwrap_or_default());
        let taken = call.invoke_async(&mut self.server.connection.clone()).await;
        let (is_ours, value): (u8, String) = self.done(taken, "to take")?;
        self.value = (is_ours == 1).then(|| value.clone());
        Ok((self.value.clone(), Some(value)))
    }

    /// Returns true if the lease was ours when the server was asked last.
    pub const fn is_ours(&self) -> bool {
        self.value.is_some()
    }

    /// Makes or renews the claim of the cell that has the lease. Returns the claim of another cell that overlaps with
    /// it.
    pub async fn claim(
        &mut self,
        ours: &Claim,
        meets: &(dyn Fn(&Claim) -> bool + Send + Sync),
    ) -> Result<Option<Claim>, ServerError> {
        self.server.claim(ours, self.lasts, meets).await
    }

    /// Releases the lease and, if we have it, the claim.
    pub async fn give_back(&mut self, claim: Option<&Claim>) -> Result<(), ServerError> {
        if let Some(claim) = claim.filter(|_| self.value.is_some()) {
            self.server.disclaim(&claim.decisions).await?;
        }
        self.release().await
    }

    /// Returns the present value of the lease, and leaves it as it is.
    pub async fn look(&mut self) -> Result<Option<String>, ServerError> {
        let value = self.server.get(&self.keys.lease).await?;
        Ok(value.map(|value| String::from_utf8_lossy(&value).into_owned()))
    }

    /// Releases the lease. If that fails, the lease may still be ours.
    pub async fn release(&mut self) -> Result<(), ServerError> {
        let Some(value) = self.value.clone() else { return Ok(()) };
        let script = Script::new(RELEASE);
        let mut call = script.key(&self.keys.lease);
        let released = call.arg(value).invoke_async(&mut self.server.connection.clone()).await;
        self.done::<u8>(released, "to release")?;
        self.value = None;
        Ok(())
    }

    fn done<T>(&self, answered: Result<T, redis::RedisError>, doing: &str) -> Result<T, ServerError> {
        answered.map_err(self.server.failed(format!("{doing} the lease")))
    }
}
