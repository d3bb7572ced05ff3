#![no_main]

#[path = "../../../tests/support/frames.rs"]
mod frames;

// The first byte is the size of the pieces in which the others come.
libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Some((piece, replies)) = input.split_first() {
        frames::check(replies, &[usize::from(*piece)]);
    }
});
