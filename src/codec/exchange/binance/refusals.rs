//! The codes of refusals, and their meanings.

use serde::Deserialize;

use crate::codec::exchange::facts::shortened;
use crate::codec::exchange::venue::{Cause, Meaning, Refusal, RefusalText};

/// Waits that apply if the exchange names none. [ms]
const TOO_MANY_WAIT_MS: u64 = 60_000;
const BAN_WAIT_MS: u64 = 120_000;
/// For 403, and for 451 (a blocked region): a retry within minutes would not help.
const SHUT_OUT_WAIT_MS: u64 = 300_000;
/// "Execution status unknown."
const UNKNOWN_OUTCOMES: [i64; 2] = [-1006, -1007];
/// "Too many requests", with any status.
const TOO_MANY: i64 = -1003;

/// Returns the meaning of an answer with a status other than 2xx.
pub(super) fn refusal(status: u16, body: &[u8]) -> Refusal {
    let said = said(body);
    let code = said.as_ref().map_or(0, |said| said.code);
    let meaning = match status {
        418 | 403 | 451 => Meaning::ShutOut {
            until_ms: said.as_ref().and_then(|said| until_named(&said.message)),
            wait_ms: if status == 418 { BAN_WAIT_MS } else { SHUT_OUT_WAIT_MS },
        },
        408 | 500.. => Meaning::OutcomeUnknown,
        _ if UNKNOWN_OUTCOMES.contains(&code) => Meaning::OutcomeUnknown,
        _ if status == 429 || code == TOO_MANY => Meaning::TooMany { wait_ms: TOO_MANY_WAIT_MS },
        _ => Meaning::Refused(cause(status, code)),
    };
    Refusal { meaning, said }
}

fn cause(status: u16, code: i64) -> Cause {
    match code {
        // "Timestamp for this request is outside of the recvWindow."
        -1021 => Cause::Timestamp,
        // A bad signature, a bad format of a key, a key that is not known here. A secret of the wrong kind causes them
        // too.
        -1022 | -2014 | -2015 => Cause::Signature,
        -1002 | -2008 => Cause::Credentials,
        // "Invalid symbol."
        -1121 => Cause::NoSymbol,
        // "This listenKey does not exist."
        -1125 => Cause::NoKey,
        _ if status == 401 => Cause::Credentials,
        _ => Cause::Other,
    }
}

/// Returns the error in a body. Returns `None` if the body is not an error of the exchange, such as a page of HTML.
fn said(body: &[u8]) -> Option<RefusalText> {
    #[derive(Deserialize)]
    struct Body {
        code: i64,
        #[serde(default)]
        msg: String,
    }
    let body: Body = serde_json::from_slice(body).ok()?;
    Some(RefusalText { code: body.code, message: shortened(&body.msg) })
}

/// Returns the time in "IP banned until 1770163395196". [ms since 1970]
fn until_named(message: &str) -> Option<u64> {
    let (_, behind) = message.split_once("until ")?;
    let digits: String = behind.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_refusal_means_what_its_status_and_code_say() {
        let of = |status, body: &str| refusal(status, body.as_bytes());
        let with = |status, code: i64| of(status, &format!(r#"{{"code":{code},"msg":"no"}}"#)).meaning;
        for (status, code, want) in [
            (400, -1021, Meaning::Refused(Cause::Timestamp)),
            (400, -1121, Meaning::Refused(Cause::NoSymbol)),
            (400, -1125, Meaning::Refused(Cause::NoKey)),
            (401, -2015, Meaning::Refused(Cause::Signature)),
            (400, -1022, Meaning::Refused(Cause::Signature)),
            (401, -1, Meaning::Refused(Cause::Credentials)),
            (400, -2008, Meaning::Refused(Cause::Credentials)),
            (400, -2013, Meaning::Refused(Cause::Other)),
            (400, -1003, Meaning::TooMany { wait_ms: 60_000 }),
            (429, 0, Meaning::TooMany { wait_ms: 60_000 }),
            (400, -1007, Meaning::OutcomeUnknown),
            (408, 0, Meaning::OutcomeUnknown),
            (503, -1003, Meaning::OutcomeUnknown),
            (403, -1003, Meaning::ShutOut { until_ms: None, wait_ms: 300_000 }),
        ] {
            assert_eq!(with(status, code), want, "{status} {code}");
        }
        let banned = of(418, r#"{"code":-1003,"msg":"Way too many; IP(1) banned until 1770163395196. Use sockets."}"#);
        assert_eq!(banned.meaning, Meaning::ShutOut { until_ms: Some(1_770_163_395_196), wait_ms: 120_000 });
        let said = of(400, r#"{"code":-1121,"msg":"Invalid\nsymbol."}"#).said.expect("an error of the exchange");
        assert_eq!((said.code, said.message.as_str()), (-1121, "Invalid symbol."));
        assert_eq!(of(404, "<html>"), Refusal { meaning: Meaning::Refused(Cause::Other), said: None });
    }

    proptest! {
        #[test]
        fn any_refusal_has_a_meaning(status in 300u16..600, body in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = refusal(status, &body);
        }
    }
}
