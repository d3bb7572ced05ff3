//! The lease: the right to read from the group and to emit decisions, with a fencing token that only grows.

use std::time::Duration;

use redis::Script;

use super::claims::Claim;
use super::retire::RETIRED;
use super::server::{Server, ServerError};

/// Takes the lease if it is free, or if a process of the same consumer had it. The token grows by one with each holder.
/// Returns whether it was taken, its value, and the time until it ends; -1 if it does not end, -3 if our user may not
/// know that. [ms]
const TAKE: &str = r"
local held = redis.call('GET', KEYS[1])
if held and (ARGV[3] == '' or string.match(held, '^%d+ (.*) %x+$') ~= ARGV[3]) then
    local left = redis.pcall('PTTL', KEYS[1])
    return {0, held, type(left) == 'number' and left or -3}
end
local token = redis.call('INCR', KEYS[2])
local value = token .. ' ' .. ARGV[1]
redis.call('SET', KEYS[1], value, 'PX', ARGV[2])
return {1, value, tonumber(ARGV[2])}";

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

/// No instance takes a lease for longer than this. [ms]
const LEASE_MAX_MS: i64 = 600_000;
/// The number of characters of a foreign value that are shown. [1]
const SHOWN_MAX: usize = 80;

/// The lease as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldLease {
    pub value: String,
    /// True if the lease ends by itself, as each lease of an instance does.
    pub ends: bool,
}

impl HeldLease {
    fn of(value: String, left_ms: i64) -> Self {
        Self { value, ends: left_ms != -1 && left_ms <= LEASE_MAX_MS }
    }

    /// Returns the consumer that holds it; `None` if the value is not of the form `token consumer nonce`.
    pub fn holder(&self) -> Option<&str> {
        self.value.split_once(' ')?.1.rsplit_once(' ').map(|(consumer, _)| consumer)
    }

    /// Returns the reason why no instance can take the lease, with the next step; `None` if it ends by itself.
    pub fn stuck(&self, keys: &LeaseKeys) -> Option<String> {
        if self.ends {
            return None;
        }
        if self.value == RETIRED {
            return Some(
                "the cell was retired by `cells split`; stop this service, and start those of the new cells".to_owned(),
            );
        }
        let shown: String = self.value.chars().take(SHOWN_MAX).collect();
        let key = &keys.lease;
        Some(format!("{key} contains {shown:?} and does not expire; find who wrote it, and delete the key (DEL {key})"))
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
    /// Returns the value if the lease is ours, and the lease as it is now.
    pub async fn take_or_renew(
        &mut self,
        inherits_from: Option<&str>,
    ) -> Result<(Option<String>, Option<HeldLease>), ServerError> {
        let lasts_ms = self.lasts.as_millis() as u64;
        if let Some(value) = self.value.clone() {
            let script = Script::new(RENEW);
            let mut call = script.key(&self.keys.lease);
            let renewed = call.arg(&value).arg(lasts_ms).invoke_async(&mut self.server.connection.clone()).await;
            if self.done::<u8>(renewed, "to renew")? == 1 {
                return Ok((Some(value.clone()), Some(HeldLease::of(value, lasts_ms as i64))));
            }
            self.value = None;
        }
        let script = Script::new(TAKE);
        let mut call = script.key(&self.keys.lease);
        let call = call.key(&self.keys.token).arg(&self.owner).arg(lasts_ms).arg(inherits_from.unwrap_or_default());
        let taken = call.invoke_async(&mut self.server.connection.clone()).await;
        let (is_ours, value, left_ms): (u8, String, i64) = self.done(taken, "to take")?;
        self.value = (is_ours == 1).then(|| value.clone());
        Ok((self.value.clone(), Some(HeldLease::of(value, left_ms))))
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

    /// Returns the lease as it is now, and does not try to take it.
    pub async fn look(&mut self) -> Result<Option<HeldLease>, ServerError> {
        self.server.lease_at(&self.keys).await
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

impl Server {
    /// Returns the lease as it is now; `None` if it is free.
    pub async fn lease_at(&mut self, keys: &LeaseKeys) -> Result<Option<HeldLease>, ServerError> {
        let Some(value) = self.get(&keys.lease).await? else { return Ok(None) };
        // A user without the right to ask for it is not a failure.
        let left = self.query(&keys.lease, redis::cmd("PTTL").arg(&keys.lease)).await;
        Ok(Some(HeldLease::of(String::from_utf8_lossy(&value).into_owned(), left.unwrap_or(-3))))
    }
}
