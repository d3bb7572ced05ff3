//! A TCP proxy between the service and a server. It can be cut and moved to another server, as a failover looks to a
//! client.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};

#[derive(Default)]
struct State {
    /// Port of the server; `None` if the proxy is cut.
    target: Option<u16>,
    open: Vec<TcpStream>,
    /// All connections are cut after so many bytes of answers, one number after the other. [bytes]
    cuts: Vec<usize>,
    answered: usize,
    /// The answer to a command that contains this text is lost, and its connection is cut.
    lost: Option<String>,
    /// The answer to a command that contains this text is held.
    held: Option<String>,
    /// True while an answer is held.
    is_holding: bool,
    /// True if the server reports no counts, as a server of 6.2 does.
    is_old: bool,
    /// True while every byte is lost and no connection ends.
    is_silent: bool,
    /// Connections that send this text fall silent for good.
    silencing: Option<String>,
}

impl State {
    /// Counts the bytes of an answer. Returns true if the connection is cut here.
    fn cuts_at(&mut self, bytes: usize) -> bool {
        self.answered += bytes;
        let is_over = self.cuts.first().is_some_and(|cut| self.answered > *cut);
        if is_over {
            self.cuts.remove(0);
        }
        is_over
    }
}

pub struct Proxy {
    port: u16,
    state: Arc<Mutex<State>>,
    released: Arc<Condvar>,
}

impl Proxy {
    pub fn to(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State { target: Some(target), ..State::default() }));
        let (shared, released) = (Arc::clone(&state), Arc::<Condvar>::default());
        let of_wires = Arc::clone(&released);
        // The thread ends with the process of the test.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let mut state = shared.lock().unwrap();
                let Some(target) = state.target else { continue };
                let Ok(server) = TcpStream::connect(("127.0.0.1", target)) else { continue };
                state.open.extend([client.try_clone().unwrap(), server.try_clone().unwrap()]);
                let wire = Wire {
                    state: Arc::clone(&shared),
                    released: Arc::clone(&of_wires),
                    loses: Arc::default(),
                    holds: Arc::default(),
                    is_silent: Arc::default(),
                };
                asks(client.try_clone().unwrap(), server.try_clone().unwrap(), wire.clone());
                answers(server, client, wire);
            }
        });
        Self { port, state, released }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Cuts the connections each time that this number of bytes was answered in all, in ascending order.
    pub fn cut_after(&self, bytes: &[usize]) {
        self.state.lock().unwrap().cuts = bytes.to_vec();
    }

    /// Loses the next answer to a command that contains this text. The command itself takes effect.
    pub fn lose_answer_to(&self, text: &str) {
        self.state.lock().unwrap().lost = Some(text.to_owned());
    }

    /// Returns true if the answer was lost.
    pub fn has_lost(&self) -> bool {
        self.state.lock().unwrap().lost.is_none()
    }

    /// Holds the next answer to a command that contains this text until it is released.
    pub fn hold_answer_to(&self, text: &str) {
        self.state.lock().unwrap().held = Some(text.to_owned());
    }

    /// Returns true if the server has given that answer and the client waits for it.
    pub fn is_holding(&self) -> bool {
        self.state.lock().unwrap().is_holding
    }

    pub fn release(&self) {
        self.state.lock().unwrap().is_holding = false;
        self.released.notify_all();
    }

    /// Hides the counts that a server of 6.2 does not report: how many entries were added, and what was deleted.
    pub fn counting_nothing(self) -> Self {
        self.state.lock().unwrap().is_old = true;
        self
    }

    /// Loses every byte in both directions from now on, or forwards them again. No connection ends.
    pub fn silence(&self, is_silent: bool) {
        self.state.lock().unwrap().is_silent = is_silent;
    }

    /// Makes each connection fall silent that sends this text; `None`: no further one.
    pub fn silence_those_that_send(&self, text: Option<&str>) {
        self.state.lock().unwrap().silencing = text.map(str::to_owned);
    }

    /// Ends all connections. New ones go to another server, or are refused.
    pub fn lead_to(&self, target: Option<u16>) {
        let mut state = self.state.lock().unwrap();
        state.target = target;
        for stream in state.open.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// One connection through the proxy.
#[derive(Clone)]
struct Wire {
    state: Arc<Mutex<State>>,
    released: Arc<Condvar>,
    /// True if the next answer is lost.
    loses: Arc<AtomicBool>,
    /// True if the next answer is held.
    holds: Arc<AtomicBool>,
    /// True if this connection has fallen silent.
    is_silent: Arc<AtomicBool>,
}

/// The way of some bytes.
enum Way {
    On,
    /// They are lost, and the connection stays open.
    Lost,
    /// The connection ends.
    End,
}

/// Forwards commands from the client to the server.
fn asks(from: TcpStream, to: TcpStream, wire: Wire) {
    pass(from, to, move |bytes| {
        let mut state = wire.state.lock().unwrap();
        if state.lost.as_ref().is_some_and(|text| holds(bytes, text)) {
            state.lost = None;
            wire.loses.store(true, Ordering::SeqCst);
        }
        if state.held.as_ref().is_some_and(|text| holds(bytes, text)) {
            state.held = None;
            wire.holds.store(true, Ordering::SeqCst);
        }
        if state.silencing.as_ref().is_some_and(|text| holds(bytes, text)) {
            wire.is_silent.store(true, Ordering::SeqCst);
        }
        let is_lost = state.is_silent || wire.is_silent.load(Ordering::SeqCst);
        if is_lost { Way::Lost } else { Way::On }
    });
}

/// Forwards answers from the server to the client.
fn answers(from: TcpStream, to: TcpStream, wire: Wire) {
    pass(from, to, move |bytes| {
        let mut state = wire.state.lock().unwrap();
        if state.is_old {
            blot(bytes, "entries-added");
            blot(bytes, "max-deleted-entry-id");
        }
        if wire.holds.swap(false, Ordering::SeqCst) {
            state.is_holding = true;
            state = wire.released.wait_while(state, |state| state.is_holding).unwrap();
        }
        if state.is_silent || wire.is_silent.load(Ordering::SeqCst) {
            return Way::Lost;
        }
        if state.cuts_at(bytes.len()) || wire.loses.load(Ordering::SeqCst) { Way::End } else { Way::On }
    });
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// Replaces a name by an unknown one of the same length.
fn blot(bytes: &mut [u8], name: &str) {
    while let Some(at) = bytes.windows(name.len()).position(|window| window == name.as_bytes()) {
        bytes[at] = b'?';
    }
}

/// Forwards data the way that `way` gives it, until the connection ends.
fn pass(mut from: TcpStream, mut to: TcpStream, mut way: impl FnMut(&mut [u8]) -> Way + Send + 'static) {
    std::thread::spawn(move || {
        let mut bytes = vec![0; 64 << 10];
        while let Ok(n) = from.read(&mut bytes) {
            if n == 0 {
                break;
            }
            match way(&mut bytes[..n]) {
                Way::On if to.write_all(&bytes[..n]).is_ok() => {}
                Way::Lost => {}
                Way::On | Way::End => break,
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    });
}
