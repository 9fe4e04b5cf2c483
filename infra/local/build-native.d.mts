/** Where the crate is. */
export const CRATE: string
/** How to build, if not in the usual way. */
export interface BuildOptions {
  cargo?: string
  crate?: string
  /** Ends the build. */
  signal?: AbortSignal
}
/** Builds the Rust addon if cargo is there and it is not built of these sources already. */
export function buildNative(
  say: (line: string) => void,
  options?: BuildOptions,
): Promise<'built' | 'fresh' | 'no-cargo'>
/** As buildNative, but a build that fails is one line. Never rejects. */
export function offerNative(
  say: (line: string) => void,
  options?: BuildOptions,
): Promise<'built' | 'fresh' | 'no-cargo' | 'failed'>
