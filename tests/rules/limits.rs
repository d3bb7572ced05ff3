//! Limits of the configuration that bound what entries can do.

use crate::support::config;
use crate::support::histories::TICK;
use crate::support::lab::Lab;
use harvester::domain::engine::Disposition;
use harvester::domain::event::Reason;

/// `run.max_symbols` reaches the decoder, of a driver as every command and the service have one.
#[test]
fn prices_introduce_as_many_symbols_as_the_configuration_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("harvester.toml");
    let refused = |setting: &str| -> Vec<bool> {
        std::fs::write(&file, setting).expect("the settings are written");
        let mut lab = Lab::new(&config(Some(&file)));
        let disposition = |at: usize| {
            let (symbol, id) = (format!("S{at}USDT"), format!("177016320000{at}-0"));
            lab.entry(TICK, &id, &[("symbol", &symbol), ("price", "1")]).step.disposition
        };
        let is_refused = |found| match found {
            Disposition::Applied => false,
            Disposition::Quarantined(Reason::TooManySymbols) => true,
            other => panic!("{other:?}"),
        };
        (0..4).map(disposition).map(is_refused).collect()
    };
    assert_eq!(refused("[run]\nmax_symbols = 2\n"), [false, false, true, true]);
    assert_eq!(refused("[run]\nmax_symbols = 3\n"), [false, false, false, true]);
    assert_eq!(refused(""), [false; 4]);
}
