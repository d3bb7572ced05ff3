//! Exclusive use of the terminal: keys as they are pressed, the alternate screen, and its restoration at any end of the
//! process.
//!
//! Promises: the terminal is restored when the value is dropped, and before the message of a panic is written. A caller
//! that a signal ends has to drop the value.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::os::fd::AsFd as _;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{self, Event};
use ratatui::crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::crossterm::{cursor, execute};
use ratatui::{Frame, Terminal};
use tokio::sync::mpsc::UnboundedReceiver;

/// True while this process uses the terminal exclusively.
static IS_OURS: AtomicBool = AtomicBool::new(false);
static HOOK: Once = Once::new();

/// Exclusive use of the terminal by one command.
pub struct Whole {
    terminal: Terminal<CrosstermBackend<BufWriter<File>>>,
}

impl Whole {
    /// Takes the terminal. Fails if standard output is not a terminal.
    pub fn take() -> io::Result<Self> {
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                give_back();
                before(panic);
            }));
        });
        let backend = CrosstermBackend::new(BufWriter::new(output()?));
        enable_raw_mode()?;
        IS_OURS.store(true, Ordering::Relaxed);
        Self::entered(backend).inspect_err(|_| give_back())
    }

    fn entered(mut backend: CrosstermBackend<BufWriter<File>>) -> io::Result<Self> {
        // `Terminal::clear` would ask the terminal for the position of its cursor while a thread reads the keys.
        execute!(backend, EnterAlternateScreen, Clear(ClearType::All), cursor::Hide)?;
        Ok(Self { terminal: Terminal::new(backend)? })
    }

    pub fn draw(&mut self, render: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.terminal.draw(render).map(drop)
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        give_back();
    }
}

/// Returns true if standard output is a terminal.
pub fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Returns keys and changes of the size, from a separate thread. The channel ends when the terminal is closed.
pub fn events() -> UnboundedReceiver<Event> {
    let (sender, events) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            if sender.send(event).is_err() {
                break;
            }
        }
    });
    events
}

/// Returns standard output without its lock, which the main thread may hold while another one panics.
fn output() -> io::Result<File> {
    Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?))
}

/// Restores the terminal. Ignores a failure: the terminal may be gone.
fn give_back() {
    if !IS_OURS.swap(false, Ordering::Relaxed) {
        return;
    }
    if let Ok(mut output) = output() {
        let _ = execute!(output, LeaveAlternateScreen, cursor::Show);
        let _ = output.flush();
    }
    let _ = disable_raw_mode();
}
