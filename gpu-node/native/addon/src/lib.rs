//! The native addon: what Node sees of the processor's engine, and the grammars.
//!
//! | Module | Responsibility |
//! |---|---|
//! | `grammar` | grammars that constrain an output |
//! | `binding` | the functions and classes that Node sees |
//!
//! Unsafe code is in `binding`.

#![deny(unsafe_code)]

#[cfg(all(feature = "binding", not(test)))]
mod binding;
pub mod grammar;
