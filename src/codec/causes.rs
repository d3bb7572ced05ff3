//! An error with its causes, in one line.

use std::error::Error;

/// Returns an error and its causes, from the outermost to the innermost one: `A: B: C`. Leaves out a cause that the text
/// of an outer error contains already.
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let inner = error.to_string();
        if !text.contains(&inner) {
            text.push_str(": ");
            text.push_str(&inner);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Failed {
        #[error("file F cannot be read: {source}")]
        Repeats { source: std::io::Error },
        #[error("file F cannot be read")]
        LeavesOut { source: std::io::Error },
    }

    #[test]
    fn each_cause_is_named_once() {
        let source = || std::io::Error::other("no such file");
        for error in [Failed::Repeats { source: source() }, Failed::LeavesOut { source: source() }] {
            assert_eq!(with_causes(&error), "file F cannot be read: no such file");
        }
    }
}
