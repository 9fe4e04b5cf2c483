/** The folder of the Rust workspace, whose crates share compiled dependencies. */
export const RUST_WORKSPACE: string
