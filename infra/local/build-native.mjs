/**
 * Builds the native addon, as `node infra/local/build-native.mjs [--optional]` or by its functions; see
 * `build-addon.mjs`.
 */
import { join } from 'node:path'
import { sourceHash } from '../../gpu-node/native/source-hash.mjs'
import { buildAddon, offerAddon, RUST_WORKSPACE, runAsProgram } from './build-addon.mjs'

/** @param {(line: string) => void} print */
export function buildNative(print, options = {}) {
  return buildAddon(nativeBuild(options.workspace), print, options)
}

/** @param {(line: string) => void} print */
export function offerNative(print, options = {}) {
  return offerAddon(nativeBuild(options.workspace), print, options)
}

function nativeBuild(workspace = RUST_WORKSPACE) {
  return {
    name: 'native addon',
    workspace,
    crate: 'copal-addon',
    addon: join(workspace, `copal.${process.platform}-${process.arch}.node`),
    hash: sourceHash(workspace),
    duration: 'one to three minutes',
    without: 'ONNX Runtime and JavaScript do its work, with the same results but more slowly.',
    script: 'infra/local/build-native.mjs',
  }
}

await runAsProgram(import.meta.url, nativeBuild)
