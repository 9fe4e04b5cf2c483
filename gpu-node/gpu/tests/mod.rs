//! Tests of the crate on devices, part of its unit tests.

mod attention;
mod benchmark;
mod calibration;
mod engine;
mod exchange;
mod faults;
