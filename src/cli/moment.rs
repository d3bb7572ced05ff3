//! The options that take a time. They count from the end of the history that is read (docs/spec/commands.md, "Times").

use anyhow::{Context as _, bail};

use crate::codec::moment::{FORMS, Moment};
use crate::config::Config;
use crate::domain::event::ids::EntryId;
use crate::drive::scope;
use crate::shell::history::{History, Input, Options};

/// Returns the help of an option that takes a time. `what` says what the option does.
pub fn help(what: &str) -> String {
    format!("{what}: {FORMS}")
}

/// Returns the help of an option that takes the beginning of a range.
pub fn help_since(what: &str) -> String {
    format!("{what} from this entry or time on: {FORMS}. The history is read from its beginning in any case")
}

/// Returns the first entry of a range that begins at the value of an option.
pub fn since(option: &str, text: &str, end_ms: impl FnOnce() -> anyhow::Result<u64>) -> anyhow::Result<EntryId> {
    let (moment, end_ms) = parsed(option, text, end_ms)?;
    Ok(moment.since(end_ms))
}

/// Returns the last entry of a range whose end is the value of an option.
pub fn until(option: &str, text: &str, end_ms: impl FnOnce() -> anyhow::Result<u64>) -> anyhow::Result<EntryId> {
    let (moment, end_ms) = parsed(option, text, end_ms)?;
    Ok(moment.until(end_ms))
}

/// Returns a time, and the end that it counts from. Asks for the end only if the time depends on it.
fn parsed(option: &str, text: &str, end_ms: impl FnOnce() -> anyhow::Result<u64>) -> anyhow::Result<(Moment, u64)> {
    let moment: Moment = match text.parse() {
        Ok(moment) => moment,
        Err(error) => bail!("{option}: {error}"),
    };
    let end_ms = if moment.needs_end() {
        end_ms().with_context(|| format!("{option} {text:?} counts from the end of the history"))?
    } else {
        0
    };
    Ok((moment, end_ms))
}

/// Returns the time of the last entry of a history. [ms since 1970]
pub fn end_of(inputs: &[Input], config: &Config, options: Options) -> anyhow::Result<u64> {
    if inputs.contains(&Input::Stdin) {
        bail!("standard input can be read once only: give an entry id or a time with its date");
    }
    let config = &*scope::over(config, inputs)?;
    let history = History::open(inputs, &config.streams, options)?;
    Ok(history.last().context("the history holds no entry: give an entry id or a time with its date")?.ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: fn() -> anyhow::Result<u64> = || Ok(1_770_171_058_600);

    #[test]
    fn the_end_is_read_only_for_a_time_that_counts_from_it() {
        let unread = || bail!("the history is read");
        assert_eq!(until("--until", "7-1", unread).unwrap(), EntryId::new(7, 1));
        let refused = format!("{:#}", until("--until", "02:07", unread).unwrap_err());
        assert_eq!(refused, "--until \"02:07\" counts from the end of the history: the history is read");
        assert_eq!(since("--since", "1s ago", END).unwrap(), EntryId::new(1_770_171_057_600, 0));
    }

    #[test]
    fn a_refusal_names_the_option_the_value_and_the_accepted_forms() {
        let refused = since("--since", "yesterday", END).unwrap_err().to_string();
        for part in ["--since", "\"yesterday\"", "an entry id", "2026-02-04T02:07:31Z", "02:07", "2 hours ago"] {
            assert!(refused.contains(part), "{part}: {refused}");
        }
    }

    #[test]
    fn standard_input_has_no_end_that_could_be_read_first() {
        let config = Config::from_parts(None, std::collections::BTreeMap::new()).expect("the defaults");
        let refused = end_of(&[Input::Stdin], &config, Options::default()).unwrap_err().to_string();
        assert!(refused.starts_with("standard input can be read once only"), "{refused}");
    }
}
