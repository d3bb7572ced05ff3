//! The loop: asks the service, reads keys, draws.

use std::pin::pin;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use ratatui::crossterm::event::Event;
use serde::de::DeserializeOwned;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::state::{Answer, Effect, Top};
use super::view;
use crate::config::Config;
use crate::shell::exchange::wall_ms;
use crate::shell::process;
use crate::shell::terminal::{Whole, events, has_colour, is_terminal};
use crate::shell::web::{Client, ClientError};

/// Time for an answer. After it the screen shows that there is none, and the question goes on: a service with much to
/// catch up with answers late.
const PATIENCE: Duration = Duration::from_secs(2);
/// Interval at which the ages on the screen are drawn again.
const AGES_GROW: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples: harvester top
          harvester top --url http://10.0.0.1:9464 --every 5
`?` lists the keys. HARVEST_CONSOLE_TOKEN or console.token_file is sent to a service that asks for a token.
NO_COLOR=1 switches colours off.")]
pub struct Args {
    /// Address of the service; else that of [run] listen
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Pause between two questions to the service [s]
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
    every: u64,
}

/// Runs the command until a key or a signal ends it.
pub fn run(args: &Args, config: &Config) -> anyhow::Result<()> {
    let url = match (&args.url, config.run.listen) {
        (Some(url), _) => url.clone(),
        (None, Some(address)) => format!("http://{address}"),
        (None, None) => bail!("run.listen is empty, so the address of the service is not known: give --url URL"),
    };
    ensure!(
        is_terminal(),
        "standard output is not a terminal: use `harvester status --url {url}` and `harvester positions --url {url}`"
    );
    let client = Client::new(&url, config.console.token()?)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(show(&url, client, Duration::from_secs(args.every)))
}

/// Signals that end a program at a terminal.
struct Ends([Signal; 3]);

impl Ends {
    fn listen() -> std::io::Result<Self> {
        let [a, b, c] = [SignalKind::terminate(), SignalKind::hangup(), SignalKind::interrupt()].map(signal);
        Ok(Self([a?, b?, c?]))
    }

    async fn next(&mut self) {
        let [a, b, c] = &mut self.0;
        tokio::select! {
            _ = a.recv() => {}
            _ = b.recv() => {}
            _ = c.recv() => {}
        }
    }
}

async fn show(url: &str, client: Client, every: Duration) -> anyhow::Result<()> {
    let mut ends = Ends::listen()?;
    let mut top = Top::new(url);
    top.asked(wall_ms());
    let mut answers = answers(client, every);
    let mut ages = tokio::time::interval(AGES_GROW);
    let colour = has_colour();
    let mut terminal = Whole::take().context("the terminal cannot be used")?;
    let mut events = events();
    loop {
        terminal.draw(|frame| view::draw(&top, wall_ms(), colour, frame))?;
        let effect = tokio::select! {
            () = ends.next() => Effect::End,
            event = events.recv() => pressed(&mut top, event),
            Some(answer) = answers.recv() => {
                top.take(answer, wall_ms());
                Effect::None
            }
            _ = ages.tick() => Effect::None,
        };
        match effect {
            Effect::None => {}
            Effect::End => return Ok(()),
            Effect::Suspend => {
                drop(terminal);
                process::suspend();
                terminal = Whole::take().context("the terminal cannot be used")?;
            }
        }
    }
}

/// Passes on a key. If the terminal is gone, no more keys come.
fn pressed(top: &mut Top, event: Option<Event>) -> Effect {
    match event {
        Some(Event::Key(key)) => top.press(key),
        Some(_) => Effect::None,
        None => Effect::End,
    }
}

/// Asks again and again. Each question is sent after the answer to the one before. While an answer is late, each
/// [`PATIENCE`] sends the reason why there is none.
fn answers(client: Client, every: Duration) -> UnboundedReceiver<Answer> {
    let (sender, answers) = unbounded_channel();
    let url = client.address();
    tokio::spawn(async move {
        loop {
            let mut question = pin!(ask(&client));
            let answer = loop {
                match tokio::time::timeout(PATIENCE, &mut question).await {
                    Ok(answer) => break answer,
                    Err(_) if sender.send(late(&url)).is_err() => return,
                    Err(_) => {}
                }
            };
            if sender.send(answer).is_err() {
                return;
            }
            tokio::time::sleep(every).await;
        }
    });
    answers
}

fn late(url: &str) -> Answer {
    let why = format!(
        "the service at {url} has not answered within {}s: it is suspended or very busy, or the network lost the question",
        PATIENCE.as_secs()
    );
    Answer { report: Err(why), sheet: None }
}

async fn ask(client: &Client) -> Answer {
    let report = document(client, "/status", "a report").await;
    let sheet = match &report {
        Ok(_) => Some(document(client, "/positions?whole=1", "positions").await.map(Box::new)),
        Err(_) => None,
    };
    Answer { report: report.map(Box::new), sheet }
}

/// Returns a document of the service, or a sentence about why it is missing.
async fn document<T: DeserializeOwned>(client: &Client, path: &str, what: &str) -> Result<T, String> {
    let body = client.get(path).await.map_err(|error| match error {
        ClientError::Refused { status: 401, ref url, .. } => format!(
            "{url} asks for a token (401), and that of HARVEST_CONSOLE_TOKEN or console.token_file is not the one, or is \
             not set"
        ),
        error => error.to_string(),
    })?;
    serde_json::from_str(&body)
        .map_err(|_| format!("{path} did not answer with {what}: is that the address of `harvester run`?"))
}
