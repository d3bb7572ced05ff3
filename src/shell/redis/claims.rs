//! Claims: the accounts that each cell acts for. A leading cell keeps its claim together with its lease. It makes no
//! claim that overlaps with the claim of another cell.

use std::collections::BTreeSet;
use std::time::Duration;

use redis::{RedisResult, Script, Value};

use super::reply;
use super::server::{Server, ServerError, failed};

/// Writes our claim, unless another valid claim exists that was not compared with ours. Returns that claim: its
/// decision stream and its text.
///
/// Arguments: our decision stream, the duration of the claim, its text, the claims that were compared.
const CLAIM: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
    if all[i] ~= ARGV[1] then
        local until_ms, text = string.match(all[i + 1], '^(%d+) (.*)$')
        if until_ms and tonumber(until_ms) > now then
            local compared = false
            for j = 4, #ARGV do
                if ARGV[j] == all[i] .. '\n' .. text then compared = true end
            end
            if not compared then return {all[i], text} end
        else
            redis.call('HDEL', KEYS[1], all[i])
        end
    end
end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', now + ARGV[2]) .. ' ' .. ARGV[3])
return {}";

/// The end of the name of each key of claims.
const NAME: &str = "harvester.cells";
/// Maximum number of rounds until all other claims are compared. [1]
const ROUNDS_MAX: usize = 10_000;

/// A claim in the form in which it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The decision stream of its cell, which identifies the cell.
    pub decisions: String,
    /// The accounts that it states.
    pub text: String,
}

/// Returns the key of the claims of all cells whose decision streams belong together: those with the same beginning of
/// the name, up to the first colon, and the same hash tag. In a cluster it is in the slot of the decision stream.
pub fn key_of(decision_stream: &str) -> String {
    let prefix = decision_stream.split_once(':').map_or("harvester", |(prefix, _)| prefix);
    let tag = decision_stream.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
    match tag.filter(|tag| !tag.is_empty()) {
        Some(tag) if prefix.contains('{') => format!("{{{tag}}}:{NAME}"),
        Some(tag) => format!("{prefix}:{{{tag}}}:{NAME}"),
        None => format!("{prefix}:{NAME}"),
    }
}

impl Server {
    /// Makes or renews a claim. `meets` returns true if the claim of another cell overlaps with ours. Returns the first
    /// claim that does; then ours is not made.
    pub async fn claim(
        &mut self,
        ours: &Claim,
        lasts: Duration,
        meets: &(dyn Fn(&Claim) -> bool + Send + Sync),
    ) -> Result<Option<Claim>, ServerError> {
        let script = Script::new(CLAIM);
        let key = key_of(&ours.decisions);
        let mut compared: Vec<String> = Vec::new();
        for _ in 0..ROUNDS_MAX {
            let mut call = script.key(&key);
            let call = call.arg(&ours.decisions).arg(lasts.as_millis() as u64).arg(&ours.text).arg(&compared);
            let answered: Result<Vec<String>, _> = call.invoke_async(&mut self.connection.clone()).await;
            let answer = answered.map_err(self.failed(format!("to claim the accounts in {key}")))?;
            let [decisions, text] = <[String; 2]>::try_from(answer).unwrap_or_default();
            if decisions.is_empty() {
                return Ok(None);
            }
            let other = Claim { decisions, text };
            if meets(&other) {
                return Ok(Some(other));
            }
            compared.push(format!("{}\n{}", other.decisions, other.text));
        }
        Ok(None)
    }

    /// Returns the claims that are valid now, of the cells that belong together with a decision stream. In a cluster,
    /// the owner of their slot is asked.
    pub async fn claims(&mut self, decision_stream: &str) -> Result<Vec<Claim>, ServerError> {
        self.claims_in(&key_of(decision_stream)).await
    }

    /// Returns the claims of a key that are valid now.
    pub async fn claims_in(&mut self, key: &str) -> Result<Vec<Claim>, ServerError> {
        // The error names the server that was asked.
        let server = self.owner_of(key).unwrap_or_else(|| self.name.clone());
        let time: RedisResult<Value> = self.query(key, &redis::cmd("TIME")).await;
        let now_ms = time.and_then(reply::time_us).map_err(failed(&server, "to tell its time"))? / 1000;
        let all = self.query(key, redis::cmd("HGETALL").arg(key)).await;
        let all: Vec<(String, String)> = all.map_err(failed(&server, format!("to read {key}")))?;
        let valid = |(decisions, value): (String, String)| {
            let (until_ms, text) = value.split_once(' ')?;
            let is_valid = until_ms.parse::<u64>().ok()? > now_ms;
            is_valid.then(|| Claim { decisions, text: text.to_owned() })
        };
        Ok(all.into_iter().filter_map(valid).collect())
    }

    /// Returns the keys of all claims on the server, or on all primaries of a cluster.
    pub async fn claim_keys(&mut self) -> Result<Vec<String>, ServerError> {
        let mut found = BTreeSet::new();
        for primary in 0..self.primaries().len() {
            let mut cursor = 0_u64;
            loop {
                let mut command = redis::cmd("SCAN");
                command.arg(cursor).arg("MATCH").arg(format!("*{NAME}")).arg("COUNT").arg(1000).arg("TYPE").arg("hash");
                let scanned = self.query_primary(primary, &command).await;
                let (next, keys): (u64, Vec<String>) = scanned.map_err(self.failed("to look for claims of cells"))?;
                found.extend(keys);
                cursor = next;
                if cursor == 0 {
                    break;
                }
            }
        }
        Ok(found.into_iter().collect())
    }

    /// Removes the claim of a cell.
    pub async fn disclaim(&mut self, decision_stream: &str) -> Result<(), ServerError> {
        let key = key_of(decision_stream);
        let done = redis::cmd("HDEL").arg(&key).arg(decision_stream).query_async(&mut self.connection).await;
        done.map(|_: u64| ()).map_err(self.failed(format!("to give up the claim in {key}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_beside_the_decision_streams_and_in_their_slot() {
        for (decisions, key) in [
            ("quantum:stream:harvest.decision", "quantum:harvester.cells"),
            ("quantum:stream:harvest.decision.3", "quantum:harvester.cells"),
            ("quantum:{cell-3}:stream:harvest.decision", "quantum:{cell-3}:harvester.cells"),
            ("{cell-3}:decision", "{cell-3}:harvester.cells"),
            ("decisions", "harvester:harvester.cells"),
            ("q:{}:decision", "q:harvester.cells"),
        ] {
            assert_eq!(key_of(decisions), key);
        }
    }
}
