import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { AppError } from '@copal/shared/errors.ts'
import { createContentStore, type ContentStore } from '../../platform/content-store.ts'
import type { GatewayClient } from './gateway-client.ts'

/**
 * Frozen datasets of the gateway, fetched to `<home>/datasets/<sha256>.ndjson`: one `{"text": …}` a line.
 *
 * They are texts of clients: a node has them for as long as a job reads them, so that what is deleted in the
 * gateway is not kept by its nodes.
 */
export interface DatasetStore extends Pick<ContentStore, 'ensure'> {
  /** Removes every dataset; while no job runs. */
  clear(): Promise<void>
}

/** Composes the dataset store of a node. */
export function createDatasetStore(deps: {
  home: string
  gateway: Pick<GatewayClient, 'download'>
}): DatasetStore {
  const dir = join(deps.home, 'datasets')
  const store = createContentStore({
    dir,
    extension: '.ndjson',
    fetch: (sha256, signal) => deps.gateway.download('datasets', sha256, signal),
    // Retryable, but not without end: it was right when it was put there, and may be damaged there.
    mismatch: (sha256, actual) =>
      new AppError(
        'service_unavailable',
        `The dataset that the gateway sent for ${sha256} has the hash ${actual}: it was damaged, there or on the way. Try again.`,
      ),
  })
  return {
    ensure: (sha256, signal) => store.ensure(sha256, signal),
    clear: () => rm(dir, { recursive: true, force: true }),
  }
}
