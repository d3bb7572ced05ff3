//! Writes mark prices: as entries of the price stream, and into the two hashes that other services read.

use std::time::Duration;

use redis::Pipeline;

use super::reply;
use super::server::{Server, ServerError};

/// A mark price in the form in which it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarkText {
    pub symbol: String,
    /// Payload of the stream entry.
    pub payload: String,
    /// [quote per base]
    pub price: String,
    /// Time at which the exchange computed the price. [ms since 1970]
    pub time_ms: u64,
}

/// The destinations of mark prices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarkPlaces {
    pub stream: String,
    /// Approximate number of entries that the stream keeps. [1]
    pub entries_max: u64,
    /// Lifetime of the hashes after their last price.
    pub expiry: Duration,
}

/// Sets two fields of a hash, and its lifetime, in one step. KEYS[1]; ARGV: a field, its value, the other field, its
/// value, and the lifetime in ms.
const WRITE_HASH: &str = "redis.call('HSET', KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4])
return redis.call('PEXPIRE', KEYS[1], ARGV[5])";

impl Server {
    /// Writes mark prices in one round trip, each to all three destinations in one step. In a cluster the destinations
    /// are on several servers; there, each destination is written in one step.
    pub async fn write_marks(&mut self, places: &MarkPlaces, marks: &[MarkText]) -> Result<(), ServerError> {
        if marks.is_empty() {
            return Ok(());
        }
        if self.is_cluster() {
            return self.write_marks_by_key(places, marks).await;
        }
        let mut pipeline = Pipeline::with_capacity(marks.len() * 5);
        // A hash without an expiry would keep an old price forever.
        pipeline.atomic();
        let expiry_ms = u64::try_from(places.expiry.as_millis()).unwrap_or(u64::MAX);
        for mark in marks {
            let fields = [("event_type", "market.mark"), ("payload", &mark.payload), ("source", "harvester")];
            let (ticker, market) =
                (format!("quantum:ticker:{}", mark.symbol), format!("quantum:market:{}", mark.symbol));
            pipeline
                .cmd("XADD")
                .arg(&places.stream)
                .arg("MAXLEN")
                .arg("~")
                .arg(places.entries_max)
                .arg("*")
                .arg(&fields);
            pipeline.cmd("HSET").arg(&ticker).arg("markPrice").arg(&mark.price).arg("timestamp").arg(mark.time_ms);
            pipeline.cmd("PEXPIRE").arg(&ticker).arg(expiry_ms);
            pipeline.cmd("HSET").arg(&market).arg("price").arg(&mark.price).arg("timestamp").arg(mark.time_ms / 1_000);
            pipeline.cmd("PEXPIRE").arg(&market).arg(expiry_ms);
        }
        let answered: Result<(), redis::RedisError> = pipeline.query_async(&mut self.connection).await;
        answered.map_err(self.failed(format!("to write {} mark prices", marks.len())))
    }
    async fn write_marks_by_key(&mut self, places: &MarkPlaces, marks: &[MarkText]) -> Result<(), ServerError> {
        let expiry_ms = u64::try_from(places.expiry.as_millis()).unwrap_or(u64::MAX);
        let hash = |key: String, price: (&str, &str), time: u64| {
            let mut command = redis::cmd("EVAL");
            command.arg(WRITE_HASH).arg(1).arg(&key).arg(price.0).arg(price.1).arg("timestamp").arg(time);
            command.arg(expiry_ms);
            (key, command)
        };
        let mut commands = Vec::with_capacity(marks.len() * 3);
        for mark in marks {
            let fields = [("event_type", "market.mark"), ("payload", &mark.payload), ("source", "harvester")];
            let mut entry = redis::cmd("XADD");
            entry.arg(&places.stream).arg("MAXLEN").arg("~").arg(places.entries_max).arg("*").arg(&fields);
            commands.push((places.stream.clone(), entry));
            let (ticker, market) =
                (format!("quantum:ticker:{}", mark.symbol), format!("quantum:market:{}", mark.symbol));
            commands.push(hash(ticker, ("markPrice", &mark.price), mark.time_ms));
            commands.push(hash(market, ("price", &mark.price), mark.time_ms / 1_000));
        }
        let answered = self.query_all(&commands).await;
        let refusal = |answers: Vec<redis::Value>| reply::first_error(&answers).map_or(Ok(()), Err);
        answered.and_then(refusal).map_err(self.failed(format!("to write {} mark prices", marks.len())))
    }
}
