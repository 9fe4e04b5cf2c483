/** Where the crate is. */
export const CRATE: string
/** How to build, if not in the usual way. */
export interface BuildOptions {
  cargo?: string
  crate?: string
  /** Ends the build. */
  signal?: AbortSignal
  /** Everything else on the machine goes first. */
  inBackground?: boolean
}
/** Builds the Rust addon if cargo is there and the sources are not those of the last build. */
export function buildNative(
  say: (line: string) => void,
  options?: BuildOptions,
): Promise<'built' | 'fresh' | 'no-cargo'>
/** As buildNative, but a build that fails is one line. Never rejects. */
export function offerNative(
  say: (line: string) => void,
  options?: BuildOptions,
): Promise<'built' | 'fresh' | 'no-cargo' | 'failed'>
