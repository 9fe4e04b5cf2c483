import type { KvPrecision } from '../../../native/addon.d.ts'
import type { Log } from '../../platform/log.ts'
import type { DenseModel } from '../../model/master/dense-model.ts'
import { defaultKvTokens } from '../engine/engine-policy.ts'
import type { BackendResources } from './backend-resources.ts'

/** Returns the key/value budget that fits into memory, and logs when it is smaller than the default. */
export function kvTokensForMemory(
  { config }: DenseModel,
  { freeBytes, maxBufferBytes }: BackendResources,
  kvPrecision: KvPrecision,
  log: Log,
): number {
  const kvTokens = defaultKvTokens(config, freeBytes, { maxBufferBytes, kvPrecision })
  if (kvTokens < defaultKvTokens(config, Infinity)) {
    log.warn(
      'the key/value cache is smaller than by default, because little memory is free or the GPU takes no larger buffers. ' +
        'COPAL_KV_TOKENS sets it',
      {
        kvTokens,
        contextLength: config.contextLength,
        freeMegabytes: Math.round(freeBytes / 1e6),
        ...(Number.isFinite(maxBufferBytes) ? { bufferMegabytes: Math.round(maxBufferBytes / 1e6) } : {}),
      },
    )
  }
  return kvTokens
}
