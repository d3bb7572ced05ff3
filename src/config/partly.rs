//! The valid part of an invalid configuration: each rejected setting is removed until the rest is valid. Only commands
//! that diagnose use it; the service never runs with it.

use std::collections::BTreeMap;
use std::path::Path;

use super::environment::Environment;
use super::error::ConfigError;
use super::file::File;
use super::table::Flags;
use super::{Config, Sources, accounts, environment_of_process, policy, streams};
use crate::codec::policy::{LIVE_KEYS, ReadError};
use crate::domain::exit::policy::PolicyError;

impl Config {
    /// Reads the valid part of the file and of the process's environment. Returns it with every error.
    pub fn load_partly(file: Option<&Path>, cell: Option<u32>) -> (Self, Vec<ConfigError>) {
        Self::parts_partly_of_cell(file, environment_of_process(), cell)
    }

    /// Does the same with a given environment.
    pub fn parts_partly(file: Option<&Path>, names: BTreeMap<String, String>) -> (Self, Vec<ConfigError>) {
        Self::parts_partly_of_cell(file, names, None)
    }

    fn parts_partly_of_cell(
        file: Option<&Path>,
        mut names: BTreeMap<String, String>,
        cell: Option<u32>,
    ) -> (Self, Vec<ConfigError>) {
        let (mut refused, mut of_file) = (Vec::new(), Vec::new());
        let (file, of_path) = match file.map(|path| File::read(path, &mut of_file)).transpose() {
            Ok(file) => (file.unwrap_or_default(), None),
            Err(error) => (File::default(), Some(error)),
        };
        let more = accounts::variables(&file);
        let (environment, mut warnings) = loop {
            let mut warnings = Vec::new();
            match Environment::cleaned(names.clone(), &more, &mut warnings) {
                Ok(environment) => break (environment, warnings),
                Err(error) => {
                    let of_name = |other: &str| matches!(&error, ConfigError::UnknownName { name, .. } if other.trim_start_matches('\u{feff}') == name);
                    let before = names.len();
                    names.retain(|name, _| !of_name(name));
                    if names.len() == before {
                        names.clear();
                    }
                    refused.push(error);
                }
            }
        };
        warnings.extend(of_file);
        refused.extend(of_path);
        let mut sources = Sources { file, environment, cell, warnings, ..Sources::default() };
        loop {
            let read = sources.file.refuse_unknown().and_then(|()| Self::of(sources.clone(), Flags::new()));
            match read {
                Ok(config) => return (config, refused),
                Err(error) => refused.extend(sources.without(error)),
            }
        }
    }
}

impl Sources {
    /// Removes the setting that an error names, and returns the errors to report. Removes something each time.
    fn without(&mut self, error: ConfigError) -> Vec<ConfigError> {
        if let ConfigError::Policy(ReadError::Policy(PolicyError::LiveNeeds(_))) = &error {
            return self.without_live();
        }
        let is_left_out = match &error {
            ConfigError::UnknownKey { key, .. } | ConfigError::SecretInFile { key, .. } => self.file.leave_out(key),
            ConfigError::Value { name, .. } => self.environment.leave_out(name) || self.file.leave_out(name),
            ConfigError::UnknownName { name, .. } => self.environment.leave_out(name),
            ConfigError::LiveNeeds { key, .. } => self.file.leave_out(key),
            ConfigError::Policy(ReadError::UnknownKey { key, .. } | ReadError::Value { key, .. }) => {
                self.without_rule(key)
            }
            ConfigError::Policy(ReadError::Policy(PolicyError::Ladder(_))) => self.without_rule("ladder"),
            ConfigError::Policy(ReadError::Policy(PolicyError::Value { key, .. })) => self.without_rule(key),
            ConfigError::Policy(_) => false,
            ConfigError::Streams(_) => {
                let names = streams::NAMES
                    .iter()
                    .map(|(name, _)| *name)
                    .chain(["STREAM_HARVEST_SUGGESTIONS", "STREAM_HARVEST_QUARANTINE"]);
                let in_environment = names.filter(|name| self.environment.leave_out(name)).count() > 0;
                self.file.leave_out("streams") || in_environment
            }
            ConfigError::Unreadable { .. } | ConfigError::NoToml { .. } => false,
        };
        if !is_left_out {
            // The error names no setting that could be removed. Then all settings are discarded.
            (self.file, self.environment) = (File::default(), Environment::default());
        }
        vec![error]
    }

    /// Removes a key of the policy from the file and the environment. Returns false if neither has it.
    fn without_rule(&mut self, key: &str) -> bool {
        let top = key.split('.').next().unwrap_or(key);
        let names = policy::NAMES.iter().filter(|(_, of)| *of == top);
        let in_environment = names.filter(|(name, _)| self.environment.leave_out(name)).count() > 0;
        self.file.leave_out(&format!("policy.{top}")) || in_environment
    }

    /// Removes the mode. Returns an error for every key that the policy lacks.
    fn without_live(&mut self) -> Vec<ConfigError> {
        let is_set = |key: &str| {
            let in_environment =
                policy::NAMES.iter().any(|(name, of)| *of == key && self.environment.get(name).is_some());
            in_environment || self.file.has("policy", key)
        };
        let lacking = LIVE_KEYS.into_iter().filter(|key| !is_set(key));
        let lacking: Vec<ConfigError> =
            lacking.map(|key| ConfigError::Policy(ReadError::Policy(PolicyError::LiveNeeds(key.to_owned())))).collect();
        if !self.without_rule("mode") {
            (self.file, self.environment) = (File::default(), Environment::default());
        }
        lacking
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, names: &[(&str, &str)]) -> (Config, Vec<String>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let names = names.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let (config, refused) = Config::parts_partly(Some(file.path()), names);
        (config, refused.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn what_is_refused_is_left_out_and_the_rest_counts() {
        let text = "[run]\nread_count = 0\ngruop = \"x\"\ntick_ms = 1234\n[run.silent_after_ms]\nprize = 1\nprice = 7\n[rnu]\na = 1\n\
                    [policy]\nmin_r = \"0.75\"\nladdr = []\nladder = []\n[exchange]\napi_key = \"x\"\n";
        let names =
            [("HARVEST_MDOE", "live"), ("HARVEST_SCAN_INTERVAL_SEC", "soon"), ("REDIS_PORT", "x"), ("REDIS_HOST", "h")];
        let (config, refused) = read(text, &names);
        assert_eq!((config.run.tick_ms, config.run.silent_after_ms.price), (1234, 7));
        assert_eq!(config.policy.min_r.to_string(), "0.75");
        let said = refused.join("\n");
        for word in [
            "HARVEST_MDOE is unknown (did you mean `HARVEST_MODE`?)",
            "HARVEST_SCAN_INTERVAL_SEC = \"soon\"",
            "REDIS_PORT",
            "run.read_count = 0",
            "run.gruop",
            "run.silent_after_ms.prize",
            "`rnu`",
            "laddr",
            "ladder: at least one rung",
            "exchange.api_key",
        ] {
            assert!(said.contains(word), "{word} is not said:\n{said}");
        }
        assert_eq!(refused.len(), 10, "{said}");
    }

    #[test]
    fn live_names_all_that_it_lacks() {
        let (config, refused) = read("[policy]\nprice_sources = [\"market.tick\"]\n", &[("HARVEST_MODE", "live\r")]);
        assert_eq!(refused.len(), 3, "{refused:?}");
        assert!(refused[0].contains("ladder") && refused[1].contains("atr_unit") && refused[2].contains("on_live"));
        assert_eq!(config.warnings, ["HARVEST_MODE: a carriage return at the end was cleaned"]);
    }

    #[test]
    fn a_file_that_is_none_leaves_the_environment() {
        for text in
            ["hush", "[policy", "policy = 5", "[policy]\nlive_symbols = 5", "streams = 1", "[streams]\nprice = 5"]
        {
            let (config, refused) = read(text, &[("HARVEST_MIN_R", "0.75")]);
            assert_eq!((config.policy.min_r.to_string().as_str(), refused.len()), ("0.75", 1), "{text}: {refused:?}");
        }
        let (_, refused) = Config::parts_partly(Some(Path::new("/nowhere/harvester.toml")), BTreeMap::new());
        assert!(refused[0].to_string().contains("/nowhere/harvester.toml"), "{refused:?}");
        let (_, refused) = read("", &[("STREAM_APPLY_PLAN", "a"), ("STREAM_APPLY_RESULT", "a")]);
        assert!(refused[0].contains("named twice"), "{refused:?}");
    }
}
