#![no_main]

#[path = "../../../tests/support/fuzz.rs"]
mod fuzz;

libfuzzer_sys::fuzz_target!(|payload: &[u8]| {
    fuzz::control(payload);
});
