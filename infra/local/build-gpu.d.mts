import type { BuildOptions } from './build-native.mjs'

/** Builds the GPU addon if cargo is installed and the sources have changed since the last build. */
export function buildGpu(
  print: (line: string) => void,
  options?: Omit<BuildOptions, 'crate'>,
): Promise<'built' | 'fresh' | 'no-cargo'>
/** Like buildGpu, but a failed build only prints one line. Never rejects. */
export function offerGpu(
  print: (line: string) => void,
  options?: Omit<BuildOptions, 'crate'>,
): Promise<'built' | 'fresh' | 'no-cargo' | 'failed'>
