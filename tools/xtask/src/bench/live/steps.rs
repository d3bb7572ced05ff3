//! The time of each step of an entry, each alone on one thread.

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use harvester::codec::decode::{Decoder, Symbols};
use harvester::codec::line::{self, FieldValue, LineHead};
use harvester::config::Config;
use harvester::domain::event::ids::{EntryId, StreamId};
use harvester::shell::history::{History, Input, Options};
use harvester::shell::redis::frame::{EntryAt, Framer, Walk};

/// Entries of a reply. [1]
const REPLY_ENTRIES: usize = 1000;
/// The size of the pieces in which a reply comes. [byte]
const PIECE_BYTES: usize = 64 << 10;

/// Entries as the server returns them.
struct Reply {
    bytes: Vec<u8>,
    of: Vec<(StreamId, EntryId)>,
}

/// Measures the steps over the entries of a history.
pub fn measure(file: &Path, config: &Config) -> anyhow::Result<(Vec<(&'static str, Duration)>, u64)> {
    let replies = replies(file, config)?;
    let entries = replies.iter().map(|reply| reply.of.len() as u64).sum();
    let heads: Vec<LineHead> = config.streams.iter().map(|(_, stream)| LineHead::new(&stream.name)).collect();
    let mut decoder = Decoder::new(config.streams.clone(), Symbols::default());
    let [mut framing, mut walking, mut encoding, mut decoding] = [Duration::ZERO; 4];
    let (mut found, mut lines, mut ends): (Vec<EntryAt>, String, Vec<usize>) = Default::default();
    for reply in &replies {
        let began = Instant::now();
        let mut framer = Framer::default();
        let mut there = 0;
        let mut end = None;
        while end.is_none() && there < reply.bytes.len() {
            there = reply.bytes.len().min(there + PIECE_BYTES);
            end = framer.next(&reply.bytes[..there])?;
        }
        ensure!(end == Some(reply.bytes.len()), "a reply ends after its last entry");
        let framed = Instant::now();
        found.clear();
        let walked = Walk::new(&reply.bytes).entries(|entry| found.push(entry));
        walked.map_err(|error| anyhow::anyhow!("{error}"))?;
        let walked = Instant::now();
        lines.clear();
        ends.clear();
        for (entry, (stream, _)) in found.iter().zip(&reply.of) {
            let pairs = entry.pairs(&reply.bytes).context("an entry without fields")?;
            line::append(&mut lines, &heads[usize::from(stream.0)], entry.id, pairs);
            ends.push(lines.len());
        }
        let encoded = Instant::now();
        let mut start = 0;
        for ((stream, id), end) in reply.of.iter().zip(&ends) {
            black_box(decoder.decode_line(*stream, *id, &lines.as_bytes()[start..*end])?);
            start = *end;
        }
        framing += framed - began;
        walking += walked - framed;
        encoding += encoded - walked;
        decoding += encoded.elapsed();
    }
    let steps = vec![
        ("finding the end of the reply", framing),
        ("finding the entries in it", walking),
        ("writing their lines", encoding),
        ("decoding from the lines", decoding),
    ];
    Ok((steps, entries))
}

fn replies(file: &Path, config: &Config) -> anyhow::Result<Vec<Reply>> {
    use std::io::Write as _;
    let mut history = History::open(&[Input::Path(file.to_owned())], &config.streams, Options::default())?;
    let mut replies = Vec::new();
    let mut reply = Reply { bytes: Vec::new(), of: Vec::new() };
    let close = |reply: &mut Reply| {
        let head = format!("*{}\r\n", reply.of.len()).into_bytes();
        Reply { bytes: [head, std::mem::take(&mut reply.bytes)].concat(), of: std::mem::take(&mut reply.of) }
    };
    while let Some(line) = history.next_line()? {
        let fields = line::fields(line.bytes)?;
        if fields.pairs.is_empty() {
            continue;
        }
        let id = line.id.to_string();
        write!(reply.bytes, "*2\r\n${}\r\n{id}\r\n*{}\r\n", id.len(), 2 * fields.pairs.len())?;
        for (name, value) in &fields.pairs {
            let value = match value {
                FieldValue::Text(text) => text.as_bytes(),
                FieldValue::Bytes(bytes) => bytes,
            };
            for text in [name.as_bytes(), value] {
                write!(reply.bytes, "${}\r\n", text.len())?;
                reply.bytes.extend_from_slice(text);
                reply.bytes.extend_from_slice(b"\r\n");
            }
        }
        reply.of.push((line.stream, line.id));
        if reply.of.len() == REPLY_ENTRIES {
            replies.push(close(&mut reply));
        }
    }
    if !reply.of.is_empty() {
        replies.push(close(&mut reply));
    }
    Ok(replies)
}
