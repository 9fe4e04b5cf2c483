import type { DenseModel } from '../model/master/dense-model.ts'
import type { Log } from '../platform/log.ts'
import { backendResources, type BackendResources } from '../serving/backends/backend-resources.ts'
import { warnOfUpdateMemory, type GpuDivision } from '../serving/backends/gpu/update-memory.ts'
import { kvTokensForMemory } from '../serving/backends/kv-memory.ts'
import { MAX_SCORE_TOKENS } from '../serving/engine/engine-policy.ts'
import type { CallWatch } from '../serving/backends/gpu/call-watch.ts'
import type { NodeSettings } from '../settings.ts'

/** How a node divides the memory of its device among weights, keys and values, and updates. */
export interface MemoryDivision extends Pick<BackendResources, 'gpu' | 'updateGpu'> {
  /** Bytes for all weight sets together. */
  weightBytes: number
  /** Tokens of keys and values, of requests and of scoring. */
  kvTokens: number
  /** Those of scoring. */
  scoreKvTokens: number
  /** Most tokens of a request. */
  contextLength: number
  /** What weights, keys and values leave to updates. */
  updates: GpuDivision
}

/**
 * Opens the device that the settings require, and divides its memory. By default weights get half of it, beside a quarter for keys
 * and values.
 *
 * @throws AppError as `backendResources` does
 */
export async function divideMemory(
  settings: NodeSettings,
  model: DenseModel,
  { log, gpuCalls }: { log: Log; gpuCalls: CallWatch },
): Promise<MemoryDivision> {
  const { config } = model
  const resources = await backendResources({ ...settings, config, log, gpuCalls })
  const { freeBytes, gpu, updateGpu } = resources
  const weightBytes = settings.weightBytes ?? Math.floor(freeBytes / 2)
  const requestKvTokens = settings.kvTokens ?? kvTokensForMemory(model, resources, settings.kvPrecision, log)
  const contextLength = Math.min(config.contextLength, requestKvTokens)
  const scoreKvTokens = Math.min(MAX_SCORE_TOKENS, contextLength)
  const kvTokens = requestKvTokens + scoreKvTokens
  const updates = { freeBytes: freeBytes - weightBytes, kvTokens }
  if (updateGpu) warnOfUpdateMemory(config, updates, log)
  return { gpu, updateGpu, weightBytes, kvTokens, scoreKvTokens, contextLength, updates }
}
