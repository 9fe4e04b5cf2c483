import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { AppError } from '@copal/shared/errors.ts'
import { MAX_DATASET_BYTES, type DatasetRef } from '@copal/shared/wire/adaptation-jobs.ts'
import { createContentStore } from '../../platform/content-store.ts'
import type { GatewayClient } from './gateway-client.ts'
import { makeFolder, PRIVATE } from '../../platform/make-folder.ts'

/**
 * Fetches frozen datasets from the gateway to `<home>/datasets/<sha256>.ndjson`: one `{"text": …}` per line.
 *
 * Datasets contain texts of clients. A node keeps them only while a job reads them, so that text deleted in the gateway
 * does not remain on nodes.
 */
export interface DatasetStore {
  /** Returns the path of a dataset as {@link createContentStore} does; older gateways do not give its size. */
  ensure(dataset: Pick<DatasetRef, 'sha256' | 'bytes'>, signal?: AbortSignal): Promise<string>
  /** Removes every dataset. Call it only while no job runs. */
  clear(): Promise<void>
}

/** Creates the dataset store of a node. */
export function createDatasetStore(deps: {
  home: string
  gateway: Pick<GatewayClient, 'download'>
}): DatasetStore {
  const dir = join(deps.home, 'datasets')
  const store = createContentStore({
    dir,
    extension: '.ndjson',
    maxBytes: MAX_DATASET_BYTES,
    fetch: (sha256, maxBytes, signal) => deps.gateway.download('datasets', sha256, maxBytes, signal),
    // Retryable, but not forever: the file was correct when it was stored, and may have been damaged in the store.
    mismatch: (sha256, actual) =>
      new AppError(
        'service_unavailable',
        `The dataset that the gateway sent for ${sha256} has the hash ${actual}. It was damaged in storage or in transit. Try again.`,
      ),
  })
  return {
    async ensure({ sha256, bytes }, signal) {
      // Closed also where the home is open to other users, such as a folder that systemd makes.
      makeFolder(dir, PRIVATE)
      return store.ensure(sha256, signal, bytes)
    },
    clear: () => rm(dir, { recursive: true, force: true }),
  }
}
