//! Several services on one screen, the worst first.

use std::io::Write;

use serde::Serialize;

use super::report_of;
use crate::cli::exit_code::Found;
use crate::cli::json;
use crate::codec::time::span;
use crate::domain::named;
use crate::service::report::{Concern, Report, alive, concerns, ready};
use crate::shell::terminal::{Screen, Tone};

named! {
    /// How a service is, the worst first.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    enum State {
        /// It does not answer.
        Unreachable => "unreachable",
        NotAlive => "not alive",
        NotReady => "not ready",
        /// It works, and something needs a person.
        Findings => "findings",
        Fine => "fine",
    }
}

impl State {
    const fn tone(self) -> Tone {
        match self {
            Self::Unreachable | Self::NotAlive => Tone::Bad,
            Self::NotReady | Self::Findings => Tone::Warning,
            Self::Fine => Tone::Good,
        }
    }
}

/// A service that was asked.
struct Asked {
    url: String,
    answer: anyhow::Result<Report>,
    state: State,
    concerns: Vec<Concern>,
}

impl Asked {
    fn of(url: &str, answer: anyhow::Result<Report>) -> Self {
        let concerns = answer.as_ref().map(concerns).unwrap_or_default();
        let state = match &answer {
            Err(_) => State::Unreachable,
            Ok(report) if !alive(report).ok => State::NotAlive,
            Ok(report) if !ready(report).ok => State::NotReady,
            Ok(_) if !concerns.is_empty() => State::Findings,
            Ok(_) => State::Fine,
        };
        Self { url: url.to_owned(), answer, state, concerns }
    }

    fn error(&self) -> Option<String> {
        self.answer.as_ref().err().map(|error| format!("{error:#}"))
    }
}

/// The document of `--json`.
#[derive(Serialize)]
struct Document<'a> {
    services: Vec<Service<'a>>,
}

#[derive(Serialize)]
struct Service<'a> {
    url: &'a str,
    state: &'static str,
    /// Why it did not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    concerns: &'a [Concern],
    #[serde(skip_serializing_if = "Option::is_none")]
    report: Option<&'a Report>,
}

impl<'a> Service<'a> {
    fn of(asked: &'a Asked) -> Self {
        let Asked { url, answer, state, concerns } = asked;
        Self { url, state: state.name(), error: asked.error(), concerns, report: answer.as_ref().ok() }
    }
}

/// Runs the command. Fails with [`Found`] if any service needs a person, and with the error of the first one if none
/// answers.
pub(super) fn run(urls: &[String], as_json: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answers = runtime.block_on(futures_util::future::join_all(urls.iter().map(|url| report_of(url))));
    let mut all: Vec<Asked> = urls.iter().zip(answers).map(|(url, answer)| Asked::of(url, answer)).collect();
    all.sort_by_key(|asked| (asked.state, std::cmp::Reverse(asked.concerns.len())));
    if as_json {
        json::write(out, &Document { services: all.iter().map(Service::of).collect() })?;
    } else {
        print(&all, &mut Screen::stdout(out))?;
    }
    if all.iter().all(|asked| asked.state == State::Unreachable) {
        return Err(all.swap_remove(0).answer.err().unwrap_or_else(|| anyhow::anyhow!("no service was given")));
    }
    match all.iter().filter(|asked| asked.state != State::Fine).count() {
        0 => Ok(()),
        1 => Err(Found("1 service needs a person: see the report".to_owned()).into()),
        n => Err(Found(format!("{n} services need a person: see the report")).into()),
    }
}

fn print(all: &[Asked], screen: &mut Screen<'_>) -> anyhow::Result<()> {
    let row = |asked: &Asked| {
        let of_report = |text: fn(&Report) -> String| asked.answer.as_ref().map_or_else(|_| "-".to_owned(), text);
        vec![
            (asked.url.clone(), Tone::Plain),
            (asked.state.name().to_owned(), asked.state.tone()),
            (of_report(|report| report.role.name().to_owned()), Tone::Plain),
            (of_report(|report| report.policy.mode.clone()), Tone::Plain),
            (of_report(|report| report.positions.open.to_string()), Tone::Plain),
            (of_report(|report| report.positions.evaluable.to_string()), Tone::Plain),
            (of_report(|report| span(report.uptime_ms)), Tone::Plain),
            (asked.concerns.len().to_string(), Tone::Plain),
        ]
    };
    let head = ["SERVICE", "STATE", "ROLE", "MODE", "OPEN", "EVALUABLE", "UP", "FINDINGS"];
    screen.table(&head, &[4, 5, 6, 7], all.iter().map(row).collect())?;
    if all.iter().all(|asked| asked.state == State::Fine) {
        screen.line("Nothing needs anyone.")?;
        return Ok(());
    }
    for asked in all.iter().filter(|asked| asked.state != State::Fine) {
        screen.line("")?;
        screen.heading(&asked.url)?;
        let error = asked.error().map(|error| vec![("  unreachable".to_owned(), Tone::Bad), (error, Tone::Plain)]);
        let finding =
            |concern: &Concern| vec![(format!("  {}", concern.name), Tone::Bad), (concern.says.clone(), Tone::Plain)];
        screen.rows(error.into_iter().chain(asked.concerns.iter().map(finding)).collect())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::report::Role;

    #[test]
    fn the_worst_is_first() {
        let report = |role, connected, killed| {
            let mut report = Report { role, killed, ..Report::default() };
            report.redis.connected = connected;
            report
        };
        let all = [
            Asked::of("a", Ok(report(Role::Leader, true, false))),
            Asked::of("b", Ok(report(Role::Leader, true, true))),
            Asked::of("c", Ok(report(Role::Leader, false, false))),
            Asked::of("d", Err(anyhow::anyhow!("it is not there"))),
            Asked::of("e", Ok(Report { progress_age_ms: 600_000, ..report(Role::Leader, true, false) })),
        ];
        let states: Vec<State> = all.iter().map(|asked| asked.state).collect();
        assert_eq!(states, [State::Fine, State::Findings, State::NotReady, State::Unreachable, State::NotAlive]);
        assert!(State::Unreachable < State::NotAlive && State::NotReady < State::Findings);
    }
}
