/** The hash of the GPU addon's sources. Plain JavaScript, because the build runs before anything is installed. */
import { join } from 'node:path'
import { hashCrates } from '../native/source-hash.mjs'

/** The folder of the crate. */
export const GPU_CRATE = import.meta.dirname

/** Returns the SHA-256 over the sources of the crate and of the native crate, which it contains. */
export function gpuSourceHash() {
  return hashCrates(join(GPU_CRATE, '..', 'native'), ['.', join('..', 'gpu')])
}
