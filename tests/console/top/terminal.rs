//! The view in a real terminal, with a real service.

use std::fs;
use std::net::TcpListener;
use std::process::Command;

use super::{Guarded, TOKEN};
use crate::night;
use crate::support::redis::{RedisServer, free_port};
use crate::support::service::{Place, import, open_position, price, until, until_leader};
use harvester::shell::terminal::Whole;

/// A terminal on a tmux server of its own.
struct Tmux {
    socket: String,
}

impl Tmux {
    /// Starts a shell in a terminal. Without tmux, writes a note and returns `None`.
    fn start((width, height): (u16, u16)) -> Option<Self> {
        if Command::new("tmux").arg("-V").output().is_err() {
            eprintln!("skipped: tmux is not installed (Debian: apt-get install tmux)");
            return None;
        }
        let tmux = Self { socket: format!("harvester-{}-{}", std::process::id(), free_port()) };
        let (x, y) = (width.to_string(), height.to_string());
        let shell = "env -i TERM=screen-256color PATH=/usr/bin:/bin PS1='$ ' LC_ALL=C.UTF-8 bash --norc --noprofile";
        tmux.ask(&["-f", "/dev/null", "-u", "new-session", "-d", "-x", &x, "-y", &y, shell]);
        Some(tmux)
    }

    fn ask(&self, arguments: &[&str]) -> String {
        let output = Command::new("tmux").args(["-L", &self.socket]).args(arguments).output().expect("tmux answers");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn screen(&self) -> String {
        self.ask(&["capture-pane", "-p"])
    }

    fn press(&self, keys: &[&str]) {
        self.ask(&[&["send-keys"], keys].concat());
    }

    fn run(&self, line: &str) {
        self.ask(&["send-keys", "-l", line]);
        self.press(&["Enter"]);
    }

    fn until(&self, what: &str) {
        until(&format!("{what} on the screen"), || self.screen().contains(what));
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the screen:\n{}", self.screen());
        }
        // Ends the tmux server of this test, which has its own socket.
        let _ = Command::new("tmux").args(["-L", &self.socket, "kill-server"]).output();
    }
}

#[test]
fn a_real_terminal_shows_a_real_service_and_is_restored() {
    let Some(tmux) = Tmux::start((120, 40)) else { return };
    let server = RedisServer::start();
    import(&night(), &server);
    let mut place = Place::new(&server);
    place.listen = format!("127.0.0.1:{}", free_port());
    let service = place.start();
    until_leader(&service);
    let program = env!("CARGO_BIN_EXE_harvester");
    let top = format!("{program} top --every 1 --url http://{}", place.listen);

    tmux.run(&top);
    tmux.until("44 open");
    tmux.until("DOGEUSDT");
    open_position(&server, "NEWUSDT");
    tmux.until("45 open");
    tmux.press(&["/"]);
    tmux.ask(&["send-keys", "-l", "newusdt"]);
    tmux.press(&["Enter"]);
    tmux.until("1 of 45");
    price(&server, "NEWUSDT", "1.0042");
    tmux.until("1.0042");
    tmux.press(&["Enter"]);
    tmux.until("entry_risk_usdt");
    tmux.ask(&["resize-window", "-x", "60", "-y", "20"]);
    until("the screen is drawn again", || {
        tmux.screen().lines().any(|line| line.starts_with("Esc back") && line.len() <= 60)
    });
    tmux.ask(&["resize-window", "-x", "120", "-y", "40"]);
    tmux.press(&["Escape"]);
    tmux.until("1 of 45");

    // Suspended and continued.
    tmux.press(&["C-z"]);
    tmux.until("Stopped");
    tmux.run("fg");
    tmux.until("1 of 45");
    tmux.press(&["q"]);
    until("it has ended", || !tmux.screen().contains("1 of 45"));
    tmux.run("clear; stty -a | tr ';' '\\n' | grep -o -- '-*icanon\\|-*echo ' | tr '\\n' ,; echo");
    until("the terminal is as before", || tmux.screen().contains("icanon,echo"));
    assert!(!tmux.screen().contains("45 open"), "the other screen is gone: {}", tmux.screen());

    // A signal ends the view, and the terminal is restored.
    tmux.run("clear");
    let pid_file = place.folder.path().join("pid");
    tmux.run(&format!("sh -c 'echo $$ > {}; NO_COLOR=1 exec {top}'; echo ended $((3 + 4))", pid_file.display()));
    tmux.until("45 open");
    let coloured = tmux.ask(&["capture-pane", "-p", "-e"]);
    assert!(!coloured.contains("\u{1b}[31m") && !coloured.contains("\u{1b}[32m"), "NO_COLOR: {coloured}");
    let pid = fs::read_to_string(&pid_file).expect("its process id").trim().parse().expect("a number");
    let pid = rustix::process::Pid::from_raw(pid).expect("a process id");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it is there");
    tmux.until("ended 7");
    assert!(!tmux.screen().contains("45 open"));

    // The service hangs: the screen shows it, and is as before when the service goes on.
    tmux.run("clear");
    tmux.run(&top);
    tmux.until("45 open");
    service.signal(rustix::process::Signal::STOP);
    tmux.until("has not answered");
    assert!(tmux.screen().contains("! no answer for") && tmux.screen().contains("45 open"), "{}", tmux.screen());
    service.signal(rustix::process::Signal::CONT);
    until("it answers again", || !tmux.screen().contains("no answer for"));

    // The service ends: the last known rows stay, with the reason.
    service.stop();
    tmux.until("no answer for");
    tmux.until("Connection refused");
    assert!(tmux.screen().contains("45 open"));
    tmux.press(&["C-c"]);
    until("it has ended", || !tmux.screen().contains("45 open"));

    // The terminal closes: no process is left.
    tmux.run(&format!("sh -c 'echo $$ > {}; exec {top}'", pid_file.display()));
    tmux.until("no answer for");
    let pid = fs::read_to_string(&pid_file).expect("its process id").trim().to_owned();
    assert!(is_running(&pid));
    drop(tmux);
    until("it has ended with its terminal", || !is_running(&pid));
}

/// Returns true if a process runs. A process that has ended can still wait for its parent.
fn is_running(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with('Z'))
}

#[test]
fn a_real_terminal_reports_a_missing_token_and_sends_a_given_one() {
    let Some(tmux) = Tmux::start((100, 30)) else { return };
    let guarded = Guarded::start();
    let top = format!("{} top --url {}", env!("CARGO_BIN_EXE_harvester"), guarded.url);
    tmux.run(&top);
    tmux.until("asks for a token (401)");
    tmux.press(&["q"]);
    tmux.run("clear");
    tmux.run(&format!("HARVEST_CONSOLE_TOKEN='{TOKEN}' {top}"));
    tmux.until("DOGEUSDT");
    assert!(!tmux.screen().contains(TOKEN));
    tmux.press(&["q"]);
}

#[test]
fn a_service_that_never_answers_is_named_while_it_is_asked() {
    let Some(tmux) = Tmux::start((100, 30)) else { return };
    // The kernel accepts connections, and nobody reads from them.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("its address"));
    tmux.run(&format!("{} top --url {url}", env!("CARGO_BIN_EXE_harvester")));
    tmux.until(&format!("the service at {url} has not answered"));
    tmux.until("! no answer for");
    tmux.press(&["q"]);
}

/// Set for the process that [`panics_in_a_terminal`] ends.
const PANICS: &str = "HARVESTER_TEST_PANICS";

/// Takes the terminal and panics, in a process of its own.
#[test]
fn panics_in_a_terminal() {
    if std::env::var_os(PANICS).is_none() {
        return;
    }
    let mut terminal = Whole::take().expect("a terminal");
    terminal.draw(|frame| frame.render_widget("the whole screen", frame.area())).expect("it draws");
    panic!("a panic of the test");
}

#[test]
fn a_panic_is_readable_and_leaves_the_terminal_as_it_was() {
    let Some(tmux) = Tmux::start((120, 30)) else { return };
    let program = std::env::current_exe().expect("the program of the tests");
    let only = "--exact top::terminal::panics_in_a_terminal --nocapture";
    tmux.run(&format!("clear; {PANICS}=1 {} {only}; echo ended $((3 + 4))", program.display()));
    tmux.until("ended 7");
    let screen = tmux.screen();
    assert!(screen.contains("a panic of the test") && !screen.contains("the whole screen"), "{screen}");
    tmux.run("clear; stty -a | tr ';' '\\n' | grep -o -- '-*icanon\\|-*echo ' | tr '\\n' ,; echo");
    until("the terminal is as before", || tmux.screen().contains("icanon,echo"));
}
