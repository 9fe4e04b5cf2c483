/**
 * Builds the GPU addon, as `node infra/local/build-gpu.mjs [--optional]` or by its functions; see `build-addon.mjs`.
 * Nothing builds it by itself unless `COPAL_BACKEND=gpu` asks for it.
 */
import { join } from 'node:path'
import { GPU_CRATE, gpuSourceHash } from '../../gpu-node/gpu/source-hash.mjs'
import { buildAddon, offerAddon, RUST_WORKSPACE, runAsProgram } from './build-addon.mjs'

/** @param {(line: string) => void} print */
export function buildGpu(print, options = {}) {
  return buildAddon(gpuBuild(), print, options)
}

/** @param {(line: string) => void} print */
export function offerGpu(print, options = {}) {
  return offerAddon(gpuBuild(), print, options)
}

function gpuBuild() {
  return {
    name: 'GPU addon',
    workspace: RUST_WORKSPACE,
    crate: 'copal-gpu',
    addon: join(GPU_CRATE, `copal-gpu.${process.platform}-${process.arch}.node`),
    hash: gpuSourceHash(),
    duration: 'two to six minutes',
    without: 'COPAL_BACKEND=gpu does not work without it.',
    script: 'infra/local/build-gpu.mjs',
  }
}

await runAsProgram(import.meta.url, gpuBuild)
