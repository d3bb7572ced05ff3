//! A connection without the client library: sends commands, receives framed replies.
//!
//! One thread uses it, and waits for each answer. It returns the bytes of a reply as they came, so that they can be
//! walked while the server works on the next command. The connection is set up in the same way as one of the client
//! library.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use redis::{Cmd, ConnectionAddr, ErrorKind, Pipeline, ProtocolVersion, RedisError, Value, parse_redis_value};
use rustls::{ClientConnection, StreamOwned};

use super::address::{Address, Limits};
use super::frame::{FrameError, Framer, REPLY_BYTES_MAX, Walk, WalkError};
use super::server::{ServerError, is_refusal};

/// Space for a reply at the beginning. [byte]
const SPACE_BYTES: usize = 64 << 10;
/// Space for a reply that is kept for the next one. [byte]
const SPACE_BYTES_KEPT: usize = 4 << 20;

/// Replies as they came, all of them framed.
#[derive(Debug, Default)]
pub struct Replies {
    /// Longer than the replies: the space is filled again by later ones.
    space: Vec<u8>,
    len: usize,
}

impl Replies {
    pub const fn of(bytes: Vec<u8>) -> Self {
        let len = bytes.len();
        Self { space: bytes, len }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.space[..self.len]
    }
}

/// The kinds of sockets that an address can name.
enum Socket {
    Tcp(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    Unix(UnixStream),
}

/// A connection whose replies are framed here.
pub(super) struct Wire {
    pub name: String,
    socket: Socket,
    framer: Framer,
    /// Space for replies; a part of it is filled.
    space: Vec<u8>,
    filled: usize,
    /// The space of earlier replies, for the next ones.
    spare: Vec<u8>,
    pub had_too_large_a_reply: bool,
}

impl Wire {
    /// Connects. Returns an error if there is no server at the address or if the server refuses us.
    pub fn connect(address: &Address) -> Result<Self, ServerError> {
        let server = || address.name().to_owned();
        let opened = Socket::open(address).and_then(|socket| {
            let mut wire = Self {
                name: server(),
                socket,
                framer: Framer::default(),
                space: vec![0; SPACE_BYTES],
                filled: 0,
                spare: Vec::new(),
                had_too_large_a_reply: false,
            };
            wire.introduce(address)?;
            Ok(wire)
        });
        opened.map_err(|source| match is_refusal(&source) {
            true => ServerError::Refused { server: server(), source },
            false => ServerError::Unreachable { server: server(), source },
        })
    }

    /// Authenticates and selects the database of the address.
    fn introduce(&mut self, address: &Address) -> Result<(), RedisError> {
        let info = address.client.get_connection_info().redis_settings().clone();
        let mut pipeline = Pipeline::new();
        let is_second = info.protocol() == ProtocolVersion::RESP2;
        if !is_second {
            pipeline.cmd("HELLO").arg("3");
            if let Some(password) = info.password() {
                pipeline.arg("AUTH").arg(info.username().unwrap_or("default")).arg(password);
            }
        } else if let Some(password) = info.password() {
            pipeline.cmd("AUTH").arg(info.username()).arg(password);
        }
        let authenticating = pipeline.len();
        if info.db() != 0 {
            pipeline.cmd("SELECT").arg(info.db());
        }
        let needed = pipeline.len();
        // An old server does not know these commands, and the user may not be allowed to use them.
        pipeline.cmd("CLIENT").arg("SETINFO").arg("LIB-NAME").arg(env!("CARGO_PKG_NAME"));
        pipeline.cmd("CLIENT").arg("SETINFO").arg("LIB-VER").arg(env!("CARGO_PKG_VERSION"));
        for (index, value) in self.ask(&pipeline)?.into_iter().take(needed).enumerate() {
            let Value::ServerError(error) = value else { continue };
            if index >= authenticating {
                return Err(error.into());
            }
            let says = [error.code(), error.details().unwrap_or_default()].join(" ");
            return Err((ErrorKind::AuthenticationFailed, "the server does not let us in", says).into());
        }
        Ok(())
    }

    /// Sends commands, whose replies are received later.
    pub fn send(&mut self, pipeline: &Pipeline) -> Result<(), RedisError> {
        self.socket.write_all(&pipeline.get_packed_pipeline())?;
        Ok(self.socket.flush()?)
    }

    /// Receives this number of replies. Messages that were not requested may be between them.
    pub fn receive(&mut self, replies: usize) -> Result<Replies, RedisError> {
        let mut missing = replies;
        let mut end = 0;
        while missing > 0 {
            match self.framer.next(&self.space[..self.filled]).map_err(|error| self.damaged(error))? {
                Some(found) => {
                    let is_message = self.space[end] == b'>';
                    missing -= usize::from(!is_message);
                    end = found;
                }
                None => self.fill()?,
            }
        }
        // Later replies begin at the front of another space.
        let mut next = std::mem::take(&mut self.spare);
        let rest = self.filled - end;
        if next.len() < rest.max(SPACE_BYTES) {
            next.resize(rest.max(SPACE_BYTES), 0);
        }
        next[..rest].copy_from_slice(&self.space[end..self.filled]);
        self.framer.restart();
        self.filled = rest;
        Ok(Replies { space: std::mem::replace(&mut self.space, next), len: end })
    }

    /// Keeps the space of replies for the next ones.
    pub fn reuse(&mut self, replies: Replies) {
        let mut space = replies.space;
        if space.len() > SPACE_BYTES_KEPT {
            space.truncate(SPACE_BYTES_KEPT);
            space.shrink_to_fit();
        }
        if space.len() > self.spare.len() {
            self.spare = space;
        }
    }

    /// Reads available bytes, or waits for some.
    fn fill(&mut self) -> Result<(), RedisError> {
        if self.filled == self.space.len() {
            if self.space.len() > REPLY_BYTES_MAX {
                return Err(self.damaged(FrameError::ReplyTooLarge));
            }
            // The size does not depend on the length that the server announces, because it may announce anything.
            self.space.resize(2 * self.space.len(), 0);
        }
        match self.socket.read(&mut self.space[self.filled..]) {
            Ok(0) => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Ok(read) => {
                self.filled += read;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(io::Error::new(io::ErrorKind::TimedOut, "no answer came in time").into())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn damaged(&mut self, error: FrameError) -> RedisError {
        self.had_too_large_a_reply |= error == FrameError::ReplyTooLarge;
        damaged(error)
    }

    /// Sends commands and returns their replies, parsed by the client library.
    pub fn ask(&mut self, pipeline: &Pipeline) -> Result<Vec<Value>, RedisError> {
        self.send(pipeline)?;
        self.receive_values(pipeline.len())
    }

    /// Receives this number of replies, parsed by the client library.
    pub fn receive_values(&mut self, replies: usize) -> Result<Vec<Value>, RedisError> {
        let replies = self.receive(replies)?;
        let values = values(replies.bytes());
        self.reuse(replies);
        values
    }

    /// Sends one command and returns its reply. An error of the server is an error.
    pub fn ask_one(&mut self, command: Cmd) -> Result<Value, RedisError> {
        let mut pipeline = Pipeline::with_capacity(1);
        pipeline.add_command(command);
        match self.ask(&pipeline)?.pop() {
            Some(Value::ServerError(error)) => Err(error.into()),
            value => Ok(value.unwrap_or_default()),
        }
    }
}

/// Returns replies parsed by the client library, without messages that were not requested.
fn values(bytes: &[u8]) -> Result<Vec<Value>, RedisError> {
    let mut walk = Walk::new(bytes);
    let mut values = Vec::new();
    while !walk.is_at_end() {
        let start = walk.position();
        walk.skip(1).map_err(unlike)?;
        if bytes[start] != b'>' {
            values.push(parse_redis_value(&bytes[start..walk.position()])?);
        }
    }
    Ok(values)
}

/// Returns the error for bytes that are not a reply. The connection cannot be used any more.
fn damaged(error: FrameError) -> RedisError {
    io::Error::new(io::ErrorKind::InvalidData, error).into()
}

/// Returns the error for a reply of an unexpected form.
pub(super) fn unlike(error: WalkError<'_>) -> RedisError {
    match error {
        WalkError::Server(text) => {
            let text = String::from_utf8_lossy(text).replace("\r\n", " ");
            match parse_redis_value(format!("-{text}\r\n").as_bytes()) {
                Ok(Value::ServerError(error)) => error.into(),
                Ok(_) => (ErrorKind::UnexpectedReturnType, "an error is none").into(),
                Err(error) => error,
            }
        }
        WalkError::Unexpected(what) => (ErrorKind::UnexpectedReturnType, what).into(),
        WalkError::NotFramed(error) => damaged(error),
    }
}

impl Socket {
    fn open(address: &Address) -> Result<Self, RedisError> {
        let info = address.client.get_connection_info();
        match info.addr() {
            ConnectionAddr::Tcp(host, port) => Ok(Self::Tcp(tcp(host, *port, address.limits)?)),
            ConnectionAddr::TcpTls { host, port, insecure, .. } => {
                if *insecure {
                    return Err(
                        (ErrorKind::InvalidClientConfig, "a server without a certificate is not trusted").into()
                    );
                }
                let name = rustls::pki_types::ServerName::try_from(host.clone());
                let name = name.map_err(io::Error::other)?;
                let client = ClientConnection::new(address.tls()?, name).map_err(io::Error::other)?;
                Ok(Self::Tls(Box::new(StreamOwned::new(client, tcp(host, *port, address.limits)?))))
            }
            ConnectionAddr::Unix(path) => {
                let socket = UnixStream::connect(path)?;
                socket.set_read_timeout(Some(address.limits.response))?;
                socket.set_write_timeout(Some(address.limits.response))?;
                Ok(Self::Unix(socket))
            }
            _ => Err((ErrorKind::InvalidClientConfig, "the address is of an unknown kind").into()),
        }
    }
}

/// Connects to the first address of a host that answers.
fn tcp(host: &str, port: u16, limits: Limits) -> io::Result<TcpStream> {
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, limits.connect) {
            Ok(socket) => {
                socket.set_nodelay(true)?;
                socket.set_read_timeout(Some(limits.response))?;
                socket.set_write_timeout(Some(limits.response))?;
                return Ok(socket);
            }
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(socket) => socket.as_fd(),
            Self::Tls(socket) => socket.sock.as_fd(),
            Self::Unix(socket) => socket.as_fd(),
        }
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Read for Socket {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.read(space),
            Self::Tls(socket) => socket.read(space),
            Self::Unix(socket) => socket.read(space),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.write(bytes),
            Self::Tls(socket) => socket.write(bytes),
            Self::Unix(socket) => socket.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.flush(),
            Self::Tls(socket) => socket.flush(),
            Self::Unix(socket) => socket.flush(),
        }
    }
}
