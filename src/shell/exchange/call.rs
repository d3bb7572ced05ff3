//! The calls of the exchange, and their weights.

use std::fmt;

/// A call of the exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    ServerTime,
    PremiumIndexOfOne,
    PremiumIndexOfAll,
    ExchangeInfo,
    PositionRiskV2,
    PositionRiskV3,
    PositionMode,
    UserTrades,
    Order,
    OpenListenKey,
    KeepListenKey,
    CloseListenKey,
}

/// The authentication of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Public,
    /// The key in a header.
    Key,
    /// The key in a header, and a signature.
    Signed,
}

impl Call {
    pub const ALL: [Self; 12] = [
        Self::ServerTime,
        Self::PremiumIndexOfOne,
        Self::PremiumIndexOfAll,
        Self::ExchangeInfo,
        Self::PositionRiskV2,
        Self::PositionRiskV3,
        Self::PositionMode,
        Self::UserTrades,
        Self::Order,
        Self::OpenListenKey,
        Self::KeepListenKey,
        Self::CloseListenKey,
    ];

    /// Returns the weight that counts against the limit of the address. [weight]
    pub const fn weight(self) -> u64 {
        match self {
            Self::PositionMode => 30,
            Self::PremiumIndexOfAll => 10,
            Self::PositionRiskV2 | Self::PositionRiskV3 | Self::UserTrades => 5,
            Self::ServerTime
            | Self::PremiumIndexOfOne
            | Self::ExchangeInfo
            | Self::Order
            | Self::OpenListenKey
            | Self::KeepListenKey
            | Self::CloseListenKey => 1,
        }
    }

    /// Returns the name for reports and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ServerTime => "time",
            Self::PremiumIndexOfOne => "premiumIndex_one",
            Self::PremiumIndexOfAll => "premiumIndex",
            Self::ExchangeInfo => "exchangeInfo",
            Self::PositionRiskV2 => "positionRisk_v2",
            Self::PositionRiskV3 => "positionRisk_v3",
            Self::PositionMode => "positionSide_dual",
            Self::UserTrades => "userTrades",
            Self::Order => "order",
            Self::OpenListenKey => "listenKey_open",
            Self::KeepListenKey => "listenKey_keep",
            Self::CloseListenKey => "listenKey_close",
        }
    }

    pub(super) const fn method(self) -> reqwest::Method {
        match self {
            Self::OpenListenKey => reqwest::Method::POST,
            Self::KeepListenKey => reqwest::Method::PUT,
            Self::CloseListenKey => reqwest::Method::DELETE,
            _ => reqwest::Method::GET,
        }
    }

    pub(super) const fn path(self) -> &'static str {
        match self {
            Self::ServerTime => "/fapi/v1/time",
            Self::PremiumIndexOfOne | Self::PremiumIndexOfAll => "/fapi/v1/premiumIndex",
            Self::ExchangeInfo => "/fapi/v1/exchangeInfo",
            Self::PositionRiskV2 => "/fapi/v2/positionRisk",
            Self::PositionRiskV3 => "/fapi/v3/positionRisk",
            Self::PositionMode => "/fapi/v1/positionSide/dual",
            Self::UserTrades => "/fapi/v1/userTrades",
            Self::Order => "/fapi/v1/order",
            Self::OpenListenKey | Self::KeepListenKey | Self::CloseListenKey => "/fapi/v1/listenKey",
        }
    }

    pub(super) const fn access(self) -> Access {
        match self {
            Self::ServerTime | Self::PremiumIndexOfOne | Self::PremiumIndexOfAll | Self::ExchangeInfo => Access::Public,
            Self::PositionRiskV2 | Self::PositionRiskV3 | Self::PositionMode | Self::UserTrades | Self::Order => {
                Access::Signed
            }
            Self::OpenListenKey | Self::KeepListenKey | Self::CloseListenKey => Access::Key,
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method(), self.path())
    }
}
