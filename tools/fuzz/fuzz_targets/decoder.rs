#![no_main]

#[path = "../../../tests/support/fuzz.rs"]
mod fuzz;

libfuzzer_sys::fuzz_target!(|history: &[u8]| {
    fuzz::fold(history);
});
