/**
 * Builds the native addon, as `node infra/local/build-native.mjs [--optional]` or by its functions; see
 * `build-addon.mjs`.
 */
import { join } from 'node:path'
import { sourceHash } from '../../gpu-node/native/source-hash.mjs'
import { buildAddon, offerAddon, runAsProgram } from './build-addon.mjs'
import { ROOT } from './toolchain/toolchain.mjs'

/** The folder of the crate. */
export const CRATE = join(ROOT, 'gpu-node', 'native')

/** @param {(line: string) => void} print */
export function buildNative(print, options = {}) {
  return buildAddon(nativeBuild(options.crate), print, options)
}

/** @param {(line: string) => void} print */
export function offerNative(print, options = {}) {
  return offerAddon(nativeBuild(options.crate), print, options)
}

function nativeBuild(crate = CRATE) {
  return {
    name: 'native addon',
    crate,
    library: 'copal_native',
    addon: join(crate, `copal.${process.platform}-${process.arch}.node`),
    hash: sourceHash(crate),
    duration: 'one to three minutes',
    without: 'ONNX Runtime and JavaScript do its work, with the same results but more slowly.',
    script: 'infra/local/build-native.mjs',
  }
}

await runAsProgram(import.meta.url, nativeBuild)
