import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { AppError } from '@copal/shared/errors.ts'
import { createContentStore, type ContentStore } from '../control/content-store.ts'
import type { GatewayClient } from '../control/gateway-client.ts'

/** Mask files of this node: `<home>/masks/<sha256>.safetensors`, shared with the fleet through the gateway. */
export interface MaskStore extends ContentStore {
  /**
   * Gives the gateway a mask that this node holds; repeating it is harmless.
   *
   * @throws AppError retryable when the gateway is away
   */
  upload(sha256: string, signal?: AbortSignal): Promise<void>
}

/** Composes the mask store of a node. */
export function createMaskStore(deps: { home: string; gateway: GatewayClient }): MaskStore {
  const store = createContentStore({
    dir: join(deps.home, 'masks'),
    extension: '.safetensors',
    fetch: (sha256, signal) => deps.gateway.download('masks', sha256, signal),
    mismatch: (sha256, actual) =>
      new AppError(
        'mask_invalid',
        `The mask file that the gateway sent for ${sha256} has the hash ${actual}: it was damaged. It is fetched again later.`,
      ),
  })
  return {
    ...store,
    async upload(sha256, signal) {
      const bytes = await readFile(await store.ensure(sha256, signal))
      await deps.gateway.upload('masks', sha256, bytes, signal)
    },
  }
}
