import { buildNative } from '../../../infra/local/build-native.mjs'
import type { Backend } from '../../../gpu-node/src/serving/contract/backend.ts'
import { createOnnxBackend } from '../../../gpu-node/src/serving/backends/onnx/onnx-backend.ts'
import { createSparseBackend } from '../../../gpu-node/src/serving/backends/sparse/sparse-backend.ts'
import { loadNative } from '../../../gpu-node/src/platform/native-addon.ts'
import type { Addon, KernelName, KvPrecision } from '../../../gpu-node/native/addon.d.ts'

/** A backend under the contract tests. */
export interface TestedBackend {
  name: string
  /** @param workDir scratch space of the ONNX backend */
  create: (workDir: string) => Backend
  /** Tolerance of its log-probabilities against f64 arithmetic, on the tiny model. */
  exactTolerance: number
  /** Tolerance against its own log-probabilities when the same tokens run in chunks or in a batch. */
  selfTolerance: number
}

/** The native addon, built where cargo exists. Without it the tests that need it are skipped. */
export const addon: Addon | null =
  (await buildNative((line) => process.stderr.write(`${line}\n`))) === 'no-cargo' ? null : loadNative()

const onnx: TestedBackend = {
  name: 'onnx',
  create: (workDir) => createOnnxBackend({ workDir, threads: 1 }),
  exactTolerance: 1e-4,
  selfTolerance: 1e-4,
}

/** The ONNX backend, and the sparse engine in bf16 with every kernel of this machine. */
export const BACKENDS: readonly TestedBackend[] = [
  onnx,
  ...(addon ? addon.kernels().map((kernel) => sparseOf(addon, kernel, 'f16')) : []),
]

/** The sparse engine with keys and values in int8. */
export const INT8_KEYS: readonly TestedBackend[] = addon ? [sparseOf(addon, undefined, 'int8')] : []

function sparseOf(built: Addon, kernel: KernelName | undefined, kvPrecision: KvPrecision): TestedBackend {
  return {
    name: kernel ? `sparse-${kernel}` : `sparse, keys and values in ${kvPrecision}`,
    create: () => createSparseBackend({ addon: built, kernel, kvPrecision, threads: 2, ownTokens: 8192 }),
    // The tiny model's logits are far from flat: bf16's rounding of activations moves them by some percent.
    exactTolerance: 0.15,
    selfTolerance: 0,
  }
}
