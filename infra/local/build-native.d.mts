/** Where the crate is. */
export const CRATE: string
/** Builds the Rust addon if cargo is there and the sources are not those of the last build. */
export function buildNative(
  say: (line: string) => void,
  options?: { cargo?: string; crate?: string },
): Promise<'built' | 'fresh' | 'no-cargo'>
