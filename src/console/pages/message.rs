//! A page with one message: an error, or an address without a page.

use askama::Template;

use crate::console::frame::{Frame, PageContext};

#[derive(Template)]
#[template(path = "message.html")]
struct MessagePage<'a> {
    frame: Frame,
    /// 0 for a page that is not an error.
    status: u16,
    says: &'a str,
}

/// Makes a page with a message. `base` is the prefix of addresses, `source` the title of the console.
pub fn message(title: &str, says: &str, status: u16, (base, source): (&str, &str)) -> Result<String, askama::Error> {
    MessagePage { frame: Frame::plain(title, base, source), status, says }.render()
}

/// Makes a page for something that does not exist yet at the moment, with links to other moments.
pub fn not_yet(context: &PageContext<'_>, says: &str, symbol: Option<&str>) -> Result<String, askama::Error> {
    MessagePage { frame: Frame::of(context, "Not yet", symbol), status: 0, says }.render()
}

/// Makes a page with a message about the address, with the field for the moment as it was typed.
pub fn refused(
    context: &PageContext<'_>,
    title: &str,
    says: &str,
    status: u16,
    typed: &str,
) -> Result<String, askama::Error> {
    let mut frame = Frame::of(context, title, None);
    if let Some(time) = &mut frame.time {
        typed.clone_into(&mut time.typed);
    }
    MessagePage { frame, status, says }.render()
}
