//! A client that does nothing with the entries: own framing, one socket, one thread. The service is compared with it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use harvester::config::Config;
use harvester::domain::event::ids::EntryId;
use harvester::shell::redis::frame::{Framer, Token, Walk};

use super::place::RedisServer;

const GROUP: &str = "bare";
/// Initial space for replies. [byte]
const SPACE_BYTES: usize = 256 << 10;

/// Commands that are sent together.
#[derive(Default)]
pub struct Commands {
    bytes: Vec<u8>,
    pub count: usize,
}

impl Commands {
    /// Begins a command of so many parts, which follow.
    pub fn begin(&mut self, parts: usize) -> &mut Self {
        self.count += 1;
        self.write(format_args!("*{parts}\r\n"));
        self
    }

    pub fn part(&mut self, part: impl AsRef<[u8]>) -> &mut Self {
        let part = part.as_ref();
        self.write(format_args!("${}\r\n", part.len()));
        self.bytes.extend_from_slice(part);
        self.bytes.extend_from_slice(b"\r\n");
        self
    }

    pub fn add(&mut self, parts: &[&str]) {
        self.begin(parts.len());
        for part in parts {
            self.part(part);
        }
    }

    fn write(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing into memory does not fail.
        let _ = self.bytes.write_fmt(text);
    }
}

/// A connection whose replies are framed here.
pub struct Bare {
    socket: TcpStream,
    framer: Framer,
    space: Vec<u8>,
    filled: usize,
    /// Up to here the replies were handed out.
    used: usize,
}

impl Bare {
    pub fn connect(address: &str) -> anyhow::Result<Self> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        Ok(Self { socket, framer: Framer::default(), space: vec![0; SPACE_BYTES], filled: 0, used: 0 })
    }

    /// Sends the commands and returns their replies.
    pub fn ask(&mut self, commands: &mut Commands) -> anyhow::Result<&[u8]> {
        self.socket.write_all(&commands.bytes)?;
        let replies = std::mem::take(&mut commands.count);
        commands.bytes.clear();
        self.receive(replies)
    }

    fn receive(&mut self, replies: usize) -> anyhow::Result<&[u8]> {
        ensure!(self.used == self.filled, "a reply without a command");
        self.framer.restart();
        (self.filled, self.used) = (0, 0);
        let mut missing = replies;
        while missing > 0 {
            if let Some(end) = self.framer.next(&self.space[..self.filled])? {
                (missing, self.used) = (missing - 1, end);
                continue;
            }
            if self.filled == self.space.len() {
                self.space.resize(2 * self.filled, 0);
            }
            match self.socket.read(&mut self.space[self.filled..])? {
                0 => bail!("the server ended the connection"),
                read => self.filled += read,
            }
        }
        Ok(&self.space[..self.used])
    }

    /// Sends the commands and reads the entries of the streams in their replies, each with its payload. Skips
    /// numbers.
    pub fn read(
        &mut self,
        commands: &mut Commands,
        mut take: impl FnMut(&[u8], EntryId, Option<&[u8]>),
    ) -> anyhow::Result<()> {
        let reply = self.ask(commands)?;
        let failed = |error| anyhow::anyhow!("reading streams: {error:?}");
        let mut walk = Walk::new(reply);
        while !walk.is_at_end() {
            let mut streams = match peeked(walk) {
                Some(Token::Number(_)) => {
                    walk.skip(1).map_err(failed)?;
                    continue;
                }
                _ => walk.streams().map_err(failed)?,
            };
            while let Some(name) = streams.next(&mut walk).map_err(failed)? {
                let found = walk.entries(|entry| {
                    let payload = entry.pairs(reply).and_then(|mut pairs| pairs.find(|(name, _)| *name == b"payload"));
                    take(name, entry.id, payload.map(|(_, payload)| payload));
                });
                found.map_err(failed)?;
            }
        }
        Ok(())
    }
}

fn peeked(mut walk: Walk<'_>) -> Option<Token<'_>> {
    walk.token().ok()
}

/// Reads so many entries through a new group and acknowledges them. Returns how long that took.
///
/// The acknowledgements of a batch are sent with the request for the next one.
pub fn read_and_acknowledge(server: &RedisServer, entries: u64, config: &Config) -> anyhow::Result<Duration> {
    let streams: Vec<&str> = config.streams.iter().map(|(_, stream)| stream.name.as_str()).collect();
    let mut client = Bare::connect(&server.address())?;
    let mut commands = Commands::default();
    for stream in &streams {
        commands.add(&["XGROUP", "CREATE", stream, GROUP, "0", "MKSTREAM"]);
    }
    client.ask(&mut commands)?;
    let count = config.run.read_count.to_string();
    let began = Instant::now();
    let (mut read, mut acknowledged) = (0, 0);
    let mut ids: Vec<Vec<EntryId>> = vec![Vec::new(); streams.len()];
    let mut text = String::new();
    while acknowledged < entries {
        for (stream, ids) in streams.iter().zip(&mut ids).filter(|(_, ids)| !ids.is_empty()) {
            commands.begin(3 + ids.len()).part("XACK").part(stream).part(GROUP);
            acknowledged += ids.len() as u64;
            for id in ids.drain(..) {
                use std::fmt::Write as _;
                text.clear();
                write!(text, "{id}")?;
                commands.part(&text);
            }
        }
        commands.begin(7 + 2 * streams.len()).part("XREADGROUP").part("GROUP").part(GROUP).part(GROUP);
        commands.part("COUNT").part(&count).part("STREAMS");
        for stream in &streams {
            commands.part(stream);
        }
        for _ in &streams {
            commands.part(">");
        }
        let before = read;
        client.read(&mut commands, |name, id, _| {
            if let Some(index) = streams.iter().position(|stream| stream.as_bytes() == name) {
                ids[index].push(id);
                read += 1;
            }
        })?;
        ensure!(read > before || acknowledged >= entries, "{read} of {entries} entries were there");
    }
    Ok(began.elapsed())
}
