//! The calls, their weights, and how they are signed.

use secrecy::SecretString;

use crate::codec::exchange::query;
use crate::codec::exchange::venue::{Access, Call, Message, Method, Parameter, Stamp};

pub(super) static TIME: Call = get("time", "/fapi/v1/time", 1, Access::Public);
pub(super) static MARK_OF_ONE: Call = get("premiumIndex_one", "/fapi/v1/premiumIndex", 1, Access::Public);
pub(super) static MARKS_OF_ALL: Call = get("premiumIndex", "/fapi/v1/premiumIndex", 10, Access::Public);
pub(super) static INSTRUMENTS: Call = get("exchangeInfo", "/fapi/v1/exchangeInfo", 1, Access::Public);
pub(super) static POSITIONS_V2: Call = get("positionRisk_v2", "/fapi/v2/positionRisk", 5, Access::Signed);
pub(super) static POSITIONS_V3: Call = get("positionRisk_v3", "/fapi/v3/positionRisk", 5, Access::Signed);
pub(super) static ACCOUNT_MODE: Call =
    get("positionSide_dual", "/fapi/v1/positionSide/dual", WEIGHT_MAX, Access::Signed);
pub(super) static TRADES: Call = get("userTrades", "/fapi/v1/userTrades", 5, Access::Signed);
pub(super) static OPEN_KEY: Call = of_key("listenKey_open", Method::Post);
pub(super) static KEEP_KEY: Call = of_key("listenKey_keep", Method::Put);

/// Weight of the heaviest call, the account mode. [weight]
pub(super) const WEIGHT_MAX: u64 = 30;

const fn get(name: &'static str, path: &'static str, weight: u64, access: Access) -> Call {
    Call { name, method: Method::Get, path, weight, access }
}

const fn of_key(name: &'static str, method: Method) -> Call {
    Call { name, method, path: "/fapi/v1/listenKey", weight: 1, access: Access::Key }
}

/// Returns a call as it is sent: the key in a header, and the signature last in the query.
pub(super) fn message(call: &Call, parameters: &[Parameter], stamp: Option<&Stamp<'_>>) -> Message {
    let mut query = query::encoded(parameters);
    let mut headers = Vec::new();
    if let (Access::Key | Access::Signed, Some(stamp)) = (call.access, stamp) {
        headers.push(("x-mbx-apikey", SecretString::from(stamp.credentials.key())));
    }
    if let (Access::Signed, Some(stamp)) = (call.access, stamp) {
        let times = [("recvWindow", stamp.window_ms.to_string()), ("timestamp", stamp.now_ms.to_string())];
        let separator = if query.is_empty() { "" } else { "&" };
        query = format!("{query}{separator}{}", query::encoded(&times));
        // Base64 contains characters that must be encoded in a query.
        let signature = query::encoded(&[("signature", stamp.credentials.sign(&query))]);
        query = format!("{query}&{signature}");
    }
    let separator = if query.is_empty() { "" } else { "?" };
    Message { target: format!("{}{separator}{query}", call.path), headers }
}
