/** The hash of the GPU addon's sources. Plain JavaScript, because the build runs before anything is installed. */
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { sourceHash } from '../native/source-hash.mjs'

/** The folder of the crate. */
export const GPU_CRATE = import.meta.dirname

/** Returns the SHA-256 over the sources of the crate and of the native crate, which it contains. */
export function gpuSourceHash() {
  const crates = [GPU_CRATE, join(GPU_CRATE, '..', 'native')]
  return createHash('sha256').update(crates.map(sourceHash).join('\n')).digest('hex')
}
