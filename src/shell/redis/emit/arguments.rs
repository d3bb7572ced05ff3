//! The arguments of the emission script, each named once for both sides: the emitter fills a struct, and the script reads
//! them into variables of the same names.

/// Defines the arguments in their order, each with the function of the script that reads it.
macro_rules! arguments {
    ($($(#[$meta:meta])* $name:ident: $Type:ty = $read:literal,)+) => {
        /// The arguments of the script, before the fields of the entries.
        pub(super) struct Arguments<'a> {
            $($(#[$meta])* pub $name: $Type,)+
        }

        impl Arguments<'_> {
            /// Adds the arguments to a call, in the order in which the script reads them.
            pub fn add_to(&self, call: &mut redis::Pipeline) {
                $(call.arg(&self.$name);)+
            }
        }

        /// The lines of the script that read the arguments.
        macro_rules! read_arguments {
            () => {
                concat!($("local ", stringify!($name), " = ", $read, "()\n",)+)
            };
        }
    };
}

arguments! {
    /// The lease under which the decision is offered.
    token: &'a str = "text",
    decision_id: &'a str = "text",
    /// Time of the entry that caused the decision. [ms since 1970]
    cause_ms: u64 = "number",
    /// Maximum age of an order; 0 means no limit. [ms]
    age_max_ms: u64 = "number",
    /// A kill key that is missing now still counts.
    kill_was_set: bool = "flag",
    /// Reason not to send the order; empty if there is none so far.
    refusal: &'a str = "text",
    /// Approximate length to which output streams are trimmed; 0 means never. [1]
    length_max: u64 = "number",
    /// Names and values of the decision entry, which come first after the arguments. [1]
    fields: usize = "number",
    /// The order may have been sent: only the record is written.
    record_only: bool = "flag",
    /// The stream of the request is trimmed as ours.
    requests_are_ours: bool = "flag",
    /// Hash of the decision.
    hash: &'a str = "text",
    /// The server lost the decision: it is written again.
    again: bool = "flag",
    /// The last written decision; empty if it is not looked for.
    after: String = "text",
    /// All entries before this server time are folded; 0 turns the check off. [ms since 1970]
    watermark_ms: u64 = "number",
    /// Maximum age of the watermark at which an order is sent. [ms]
    watermark_age_max_ms: u64 = "number",
    /// Streams of facts about positions: their keys come after the others, and the cursor and the number of seen entries
    /// of each before the fields of the entries. [1]
    facts: usize = "number",
    /// Time of issue of the signed entries; 0 without a key. [ms since 1970]
    issued_ms: u64 = "number",
    /// The signed `decision.expired`, as JSON by reason.
    signed: String = "json",
    /// The decision before it in the same pipeline; empty if there is none.
    needed_id: &'a str = "text",
    needed_hash: &'a str = "text",
}

pub(super) use read_arguments;
