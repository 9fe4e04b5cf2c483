import type { Precision } from '@copal/gpu-node/native/addon.d.ts'
import type { LlamaConfig } from '@copal/gpu-node/model/config/llama-config.ts'

/** Ways to store a model on a GPU: precision of the linears, the pruned part, and bytes a weight of the linears. */
export const GPU_SETS = {
  dense: { precision: 'bf16', ratio: null, bytes: 2 },
  '50%': { precision: 'bf16', ratio: 0.5, bytes: 1.125 },
  '60%': { precision: 'bf16', ratio: 0.6, bytes: 0.925 },
  int8: { precision: 'int8', ratio: null, bytes: 1 + 1 / 32 },
  int4: { precision: 'int4', ratio: null, bytes: 5 / 8 },
  'int4-50%': { precision: 'int4', ratio: 0.5, bytes: 0.447 },
} as const satisfies Record<string, { precision: Precision; ratio: number | null; bytes: number }>
/** The precision of the head, as on a node by default. */
export const GPU_HEAD: Precision = 'int8'
/** The name of a set in {@link GPU_SETS}. */
export type GpuSet = keyof typeof GPU_SETS
/** The names of all sets. */
export const GPU_SET_NAMES = Object.keys(GPU_SETS) as GpuSet[]

/** Part of the device's memory that weights may take; keys, values and activations need the rest. */
const WEIGHT_SHARE = 0.7
/** Part of the disk that a master may take. */
const DISK_SHARE = 0.9
const MASTER_BYTES = 4

/** Returns how many layers of a model fit the device with all sets loaded at once, and the disk with the f32 master. */
export function layersThatFit(
  config: LlamaConfig,
  sets: readonly GpuSet[],
  { deviceBytes, diskBytes }: { deviceBytes: number; diskBytes: number },
): number {
  const { hiddenSize, heads, kvHeads, headDim, intermediateSize, vocabSize } = config
  const layer = hiddenSize * (2 * headDim * (heads + kvHeads) + 3 * intermediateSize)
  const head = vocabSize * hiddenSize
  // Each precision has an engine with an embedding in bf16 and a head in int8.
  const tableBytes = 3 * head * new Set(sets.map((set) => GPU_SETS[set].precision)).size
  const bytes = sets.reduce((sum, set) => sum + GPU_SETS[set].bytes, 0)
  const onDevice = (WEIGHT_SHARE * deviceBytes - tableBytes) / (layer * bytes)
  const onDisk = (DISK_SHARE * diskBytes - head * MASTER_BYTES) / (layer * MASTER_BYTES)
  return Math.max(0, Math.min(config.layers, Math.floor(onDevice), Math.floor(onDisk)))
}
