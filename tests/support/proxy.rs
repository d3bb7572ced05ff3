//! A wire between the service and a server that can be cut, and led to another server: as a failover looks from
//! outside.
#![allow(dead_code, reason = "each test uses its part")]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

#[derive(Default)]
struct State {
    /// Port of the server; none: cut.
    target: Option<u16>,
    open: Vec<TcpStream>,
    /// After so many bytes of answers all connections are cut, one number after the other. [bytes]
    cuts: Vec<usize>,
    answered: usize,
}

impl State {
    /// Counts what is answered. Does the wire break here.
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
}

impl Proxy {
    pub fn to(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State { target: Some(target), ..State::default() }));
        let shared = Arc::clone(&state);
        // Ends with the test's process.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let mut state = shared.lock().unwrap();
                let Some(target) = state.target else { continue };
                let Ok(server) = TcpStream::connect(("127.0.0.1", target)) else { continue };
                state.open.extend([client.try_clone().unwrap(), server.try_clone().unwrap()]);
                pass(client.try_clone().unwrap(), server.try_clone().unwrap(), None);
                pass(server, client, Some(Arc::clone(&shared)));
            }
        });
        Self { port, state }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Cuts a connection once so many bytes were answered in all, one number after the other, ascending.
    pub fn cut_after(&self, bytes: &[usize]) {
        self.state.lock().unwrap().cuts = bytes.to_vec();
    }

    /// Ends all connections; new ones go to another server, or nowhere.
    pub fn lead_to(&self, target: Option<u16>) {
        let mut state = self.state.lock().unwrap();
        state.target = target;
        for stream in state.open.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, counted: Option<Arc<Mutex<State>>>) {
    std::thread::spawn(move || {
        let mut bytes = vec![0; 64 << 10];
        while let Ok(n) = from.read(&mut bytes) {
            if n == 0 || counted.as_ref().is_some_and(|state| state.lock().unwrap().cuts_at(n)) {
                break;
            }
            if to.write_all(&bytes[..n]).is_err() {
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    });
}
