//! The formats of the exchange (Binance USDⓈ-M futures): replies of its REST interface, and events of its sockets.
//!
//! Promises: numbers are read from their text, never through a float; a reply is read completely or not at all where a
//! missing row would mean "no position".

mod events;
mod number;
mod replies;
mod written;

pub use events::{AccountPosition, AccountUpdate, Forced, UserEvent, is_hedge_side, mark_updates, user_event};
pub use replies::{
    AccountMode, ExchangeError, InstrumentRow, MarkPrice, OrderRow, PositionRow, Unreadable, UserTrade, account_mode,
    error, instruments, listen_key, mark_prices, order, positions, server_time, user_trades,
};
pub use written::{FEED_SOURCE, WrittenTrade, mark_payload, observed_position, written_trade};
