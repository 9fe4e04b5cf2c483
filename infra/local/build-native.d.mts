/** Options of a build. */
export interface BuildOptions {
  cargo?: string
  /** The folder with the Rust workspace. */
  workspace?: string
  /** Aborts the build. */
  signal?: AbortSignal
  /** Called when cargo starts, which it does not if the addon is built already. */
  onStart?: () => void
  /** Receives the number of crates that are compiled, and of all. */
  onProgress?: (done: number, total: number) => void
}
/** Builds the Rust addon if cargo is installed and the sources have changed since the last build. */
export function buildNative(
  print: (line: string) => void,
  options?: BuildOptions,
): Promise<'built' | 'fresh' | 'no-cargo'>
/** Like buildNative, but a failed build only prints one line. Never rejects. */
export function offerNative(
  print: (line: string) => void,
  options?: BuildOptions,
): Promise<'built' | 'fresh' | 'no-cargo' | 'failed'>
