//! `[accounts]`: the accounts by name, and where the credentials of each are: in environment variables or files that
//! `[accounts.NAME]` names. Those of the account without a name are in `[exchange]`.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::environment::Environment;
use super::error::ConfigError;
use super::exchange::{is_one_word, of_file};
use super::file::File;
use super::origin::Origin;
use super::table::Sheet;
use crate::codec::decode::is_account_name;
use crate::codec::exchange::{CredentialProblem, Credentials, Given, Venue};
use crate::codec::policy::nearest;
use crate::codec::shown::MASK;

/// The keys of `[accounts.NAME]`.
const KEYS: [&str; 4] = ["api_key_env", "api_key_file", "api_secret_env", "api_secret_file"];
/// Keys of a secret, which a file must not contain.
const SECRETS: [&str; 2] = ["api_key", "api_secret"];
/// Maximum length of the name of an environment variable. [characters]
const VARIABLE_SIZE_MAX: usize = 60;

/// All accounts with a name.
pub type Accounts = BTreeMap<Box<str>, Account>;

/// An account that is configured. `Debug` shows no secret.
#[derive(Clone, Debug)]
pub struct Account {
    key: CredentialSource,
    secret: CredentialSource,
}

/// Where a credential is.
#[derive(Clone, Debug)]
enum CredentialSource {
    /// No setting names a place: the setting that could.
    Nowhere(String),
    Variable(Result<Given, CredentialProblem>),
    File {
        setting: String,
        path: PathBuf,
    },
}

impl Account {
    /// Returns true if a setting names the source of its credentials.
    pub fn has_credentials_named(&self) -> bool {
        [&self.key, &self.secret].into_iter().any(|place| !matches!(place, CredentialSource::Nowhere(_)))
    }

    /// Returns the credentials for signed calls, or the reason why there are none.
    pub fn credentials(&self, venue: &dyn Venue) -> Result<Credentials, CredentialProblem> {
        Credentials::check(&self.key.given()?, &self.secret.given()?, venue.terms().credential_length)
    }
}

impl CredentialSource {
    fn given(&self) -> Result<Given, CredentialProblem> {
        match self {
            Self::Nowhere(setting) => {
                Err(CredentialProblem::NotGiven { name: setting.clone().into(), reason: "is not set" })
            }
            Self::Variable(given) => given.clone(),
            Self::File { setting, path } => of_file(path, setting.clone().into()),
        }
    }
}

/// Returns the environment variables that a file names for the credentials of accounts.
pub(super) fn variables(file: &File) -> BTreeSet<String> {
    let tables = file.below("accounts").filter_map(|(_, account)| account.as_table());
    let named = tables.flat_map(|table| [table.get("api_key_env"), table.get("api_secret_env")]);
    let names = named.flatten().filter_map(toml::Value::as_str).filter(|name| is_variable(name));
    names.map(str::to_owned).collect()
}

pub(super) fn read(sheet: &mut Sheet<'_>) -> Result<Accounts, ConfigError> {
    let tables = sheet.file.take("accounts")?;
    let mut accounts = Accounts::new();
    // The source of each credential, with the setting that names it.
    let mut places: BTreeMap<String, String> = BTreeMap::new();
    for (name, given) in tables {
        let setting = format!("accounts.{name}");
        if !is_account_name(&name) {
            return Err(refused(sheet, &setting, &name, "want a name of 1 to 64 letters, digits, _, - and ."));
        }
        let toml::Value::Table(table) = given else {
            return Err(refused(sheet, &setting, given.type_str(), &format!("want a table: [{setting}]")));
        };
        if let Some(key) = table.keys().find(|key| !KEYS.contains(&key.as_str())) {
            return Err(unknown(sheet, &setting, key));
        }
        let key = place(sheet, &setting, "api_key", &table, &mut places)?;
        let secret = place(sheet, &setting, "api_secret", &table, &mut places)?;
        accounts.insert(name.into(), Account { key, secret });
    }
    Ok(accounts)
}

/// Reads where the key or the secret of an account is.
fn place(
    sheet: &mut Sheet<'_>,
    account: &str,
    what: &str,
    table: &toml::Table,
    places: &mut BTreeMap<String, String>,
) -> Result<CredentialSource, ConfigError> {
    let (by_variable, by_file) = (format!("{what}_env"), format!("{what}_file"));
    let setting = |key: &str| format!("{account}.{key}");
    let place = match (table.get(&by_variable), table.get(&by_file)) {
        (None, None) => return Ok(CredentialSource::Nowhere(setting(&by_variable))),
        (Some(_), Some(_)) => {
            let want = format!("want one place only: {by_variable} or {by_file}");
            return Err(refused(sheet, &setting(&by_file), "…", &want));
        }
        (Some(given), None) => {
            let setting = setting(&by_variable);
            // Somebody may have written the credential itself.
            let Some(name) = given.as_str().filter(|name| is_variable(name)) else {
                let want = "want the name of an environment variable: capitals, digits and _";
                return Err(refused(sheet, &setting, MASK, want));
            };
            sheet.note(setting.clone(), name.into(), Origin::File);
            once(sheet, &setting, name, places)?;
            CredentialSource::Variable(of_variable(sheet.environment, name))
        }
        (None, Some(given)) => {
            let setting = setting(&by_file);
            let Some(path) = given.as_str().filter(|path| !path.trim().is_empty()) else {
                return Err(refused(sheet, &setting, &given.to_string(), "want the path of a file"));
            };
            sheet.note(setting.clone(), path.into(), Origin::File);
            once(sheet, &setting, path, places)?;
            CredentialSource::File { setting, path: path.into() }
        }
    };
    Ok(place)
}

/// Errors if another setting names the same place: two accounts with one key would be one account under two names.
fn once(
    sheet: &Sheet<'_>,
    setting: &str,
    place: &str,
    places: &mut BTreeMap<String, String>,
) -> Result<(), ConfigError> {
    match places.insert(place.to_owned(), setting.to_owned()) {
        None => Ok(()),
        Some(other) => Err(refused(sheet, setting, place, &format!("{other} names it, too: want one for each"))),
    }
}

fn of_variable(environment: &Environment, name: &str) -> Result<Given, CredentialProblem> {
    let name_of = || Cow::Owned(name.to_owned());
    let because = |reason| CredentialProblem::NotGiven { name: name_of(), reason };
    match environment.set(name) {
        None => Err(because("is not set")),
        Some("") => Err(because("is empty")),
        Some(text) if !is_one_word(text) => Err(because("has a space or a control character inside")),
        Some(text) => Ok(Given { name: name_of(), value: text.into(), cleaned: environment.flaw(name) }),
    }
}

/// Returns true for the name of an environment variable as it is usual for a service. Lower-case letters would make it
/// look like a key of the exchange.
fn is_variable(name: &str) -> bool {
    let is_part = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
    name.len() <= VARIABLE_SIZE_MAX
        && name.bytes().all(is_part)
        && name.bytes().next().is_some_and(|b| !b.is_ascii_digit())
}

fn unknown(sheet: &Sheet<'_>, setting: &str, key: &str) -> ConfigError {
    let path = sheet.file.path().to_owned();
    if SECRETS.contains(&key) {
        let name = "the variable or the file that api_key_env, api_secret_env, api_key_file and api_secret_file name";
        return ConfigError::SecretInFile { path, key: format!("{setting}.{key}"), name };
    }
    let nearest = nearest(key, KEYS.into_iter()).map(|near| format!("{setting}.{near}"));
    ConfigError::UnknownKey { path, key: format!("{setting}.{key}"), nearest }
}

fn refused(sheet: &Sheet<'_>, setting: &str, value: &str, want: &str) -> ConfigError {
    let (location, name) = (sheet.file.location(), setting.to_owned());
    ConfigError::Value { location, name, value: format!("{value:?}"), want: want.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const KEY: &str = "dbefbc809e3e83c283a984c3a1459732ea7db1360ca80c5c2c8867408d28cc83";
    const SECRET: &str = "2b5eb11e18796d12d88f13dc27dbbd02c2cc51ff7059765ed9821957d82bb4d9";

    fn read(text: &str, names: &[(&str, &str)]) -> Result<Config, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let names = names.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Config::from_parts(Some(file.path()), names).map_err(|error| error.to_string())
    }

    #[test]
    fn each_account_has_credentials_of_its_own_and_none_is_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, format!("{SECRET}\n")).unwrap();
        let text = format!(
            "[accounts.main]\napi_key_env = \"MAIN_KEY\"\napi_secret_file = {path:?}\n\
             [accounts.\"sub.1\"]\napi_key_env = \"HARVEST_SUB_KEY\"\napi_secret_env = \"SUB_SECRET\"\n[accounts.none]\n"
        );
        let names = [("MAIN_KEY", KEY), ("HARVEST_SUB_KEY", &KEY[1..]), ("SUB_SECRET", SECRET)];
        let config = read(&text, &names).unwrap();
        let venue = config.exchange.venue;
        let said = |name: &str| config.accounts[name].credentials(venue).map(drop).map_err(|why| why.to_string());
        assert_eq!(said("main"), Ok(()));
        assert_eq!(
            said("sub.1"),
            Err("HARVEST_SUB_KEY has 63 characters, a key or secret of this exchange has 64".to_owned())
        );
        assert_eq!(said("none"), Err("accounts.none.api_key_env is not set".to_owned()));
        let named: Vec<bool> = config.accounts.values().map(Account::has_credentials_named).collect();
        assert_eq!(named, [true, false, true]);
        let shown = format!("{:?} {:?}", config.accounts, config.settings);
        assert!(!shown.contains(&KEY[1..9]) && !shown.contains(&SECRET[..8]), "{shown}");
        // Those of the account without a name are in [exchange].
        assert!(config.exchange.credentials().is_err());
    }

    #[test]
    fn what_is_wrong_is_named_and_a_secret_in_the_file_is_not_quoted() {
        for (text, want) in [
            (format!("[accounts.main]\napi_key = \"{KEY}\"\n"), "key `accounts.main.api_key` is read from"),
            (format!("[accounts.main]\napi_key_env = \"{KEY}\"\n"), "want the name of an environment variable"),
            ("[accounts.main]\napi_kye_env = \"A\"\n".to_owned(), "did you mean `accounts.main.api_key_env`?"),
            ("[accounts.\"a/b\"]\n".to_owned(), "want a name of 1 to 64 letters"),
            ("[accounts]\nmain = 1\n".to_owned(), "want a table: [accounts.main]"),
            (
                "[accounts.a]\napi_key_env = \"K\"\n[accounts.b]\napi_key_env = \"K\"\n".to_owned(),
                "accounts.a.api_key_env names it, too",
            ),
            (
                "[accounts.a]\napi_key_env = \"K\"\napi_key_file = \"k\"\n".to_owned(),
                "want one place only: api_key_env or api_key_file",
            ),
        ] {
            let said = read(&text, &[]).unwrap_err();
            assert!(said.contains(want) && !said.contains(&KEY[..8]), "{said}");
        }
    }
}
