import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { AppError } from '@copal/shared/errors.ts'
import { textSample } from '@copal/shared/wire/node-rpc.ts'
import { createContentStore } from './content-store.ts'
import type { GatewayClient } from './gateway-client.ts'

/** Frozen datasets of the gateway, cached under `<home>/datasets`. */
export interface DatasetStore {
  /**
   * The texts of a dataset in its order, hash verified.
   *
   * @throws AppError `not_found`, `invalid_request` when it is not newline-delimited samples, or retryable
   */
  texts(sha256: string, signal?: AbortSignal): Promise<string[]>
  /** Removes what an interrupted process left half-written. */
  sweep(): Promise<void>
}

/** Composes the dataset store of a node. */
export function createDatasetStore(deps: { home: string; gateway: GatewayClient }): DatasetStore {
  const store = createContentStore({
    dir: join(deps.home, 'datasets'),
    extension: '.ndjson',
    fetch: (sha256, signal) => deps.gateway.download('datasets', sha256, signal),
    mismatch: (sha256, actual) =>
      new AppError(
        'no_node_available',
        `The dataset that the gateway sent for ${sha256} has the hash ${actual}: it was damaged on the way. Try again.`,
      ),
  })
  return {
    sweep: store.sweep,
    async texts(sha256, signal) {
      return parseDataset(sha256, await readFile(await store.ensure(sha256, signal)))
    },
  }
}

function parseDataset(sha256: string, bytes: Uint8Array): string[] {
  const invalid = (reason: string, cause?: unknown) =>
    new AppError('invalid_request', `Dataset ${sha256} ${reason}; one {"text": "…"} a line is expected.`, { cause })
  let content: string
  try {
    content = new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch (cause) {
    throw invalid('is not UTF-8', cause)
  }
  const texts: string[] = []
  for (const [index, line] of content.split('\n').entries()) {
    if (line === '') continue
    try {
      texts.push(textSample.parse(JSON.parse(line)).text)
    } catch (cause) {
      throw invalid(`has a bad line ${index + 1}`, cause)
    }
  }
  return texts
}
