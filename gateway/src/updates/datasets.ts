import type { DatasetRef, TextSample } from '@copal/shared/wire/node-rpc.ts'
import { sha256 } from '@copal/shared/wire/signature.ts'
import { findUnusedDatasets, forgetDatasets, insertDataset } from '../db/queries/datasets.ts'
import type { Deps } from '../deps.ts'

/** Where a dataset lies in R2. */
export function datasetKey(hash: string): string {
  return `datasets/${hash}`
}

/** Where a mask lies in R2. */
export function maskKey(hash: string): string {
  return `masks/${hash}`
}

/**
 * Freezes texts as a dataset: newline-delimited samples in R2, named by their SHA-256. The same texts of a domain
 * give the same dataset; each line names the domain, or another's with the same texts would be deleted with it.
 */
export async function freezeDataset(
  deps: Pick<Deps, 'db' | 'artifacts' | 'nowMs'>,
  domain: string,
  texts: readonly string[],
): Promise<DatasetRef> {
  const lines = texts.map((text) => {
    const sample: TextSample & { domain: string } = { domain, text }
    return `${JSON.stringify(sample)}\n`
  })
  const bytes = new Uint8Array(new TextEncoder().encode(lines.join('')))
  const hash = await sha256(bytes)
  await deps.artifacts.put(datasetKey(hash), bytes, { sha256: hash })
  const dataset = { sha256: hash, domain, samples: texts.length }
  await insertDataset(deps.db, { ...dataset, bytes: bytes.byteLength, createdAt: deps.nowMs() })
  return dataset
}

/** Deletes the texts of those of some datasets that nothing needs any more. A fault is logged: the texts stay then. */
export async function deleteUnusedDatasets(
  deps: Pick<Deps, 'db' | 'artifacts'>,
  hashes: readonly string[],
): Promise<void> {
  try {
    const unused = await findUnusedDatasets(deps.db, hashes)
    if (unused.length === 0) return
    await deps.artifacts.delete(unused.map(datasetKey))
    await forgetDatasets(deps.db, unused)
  } catch (error) {
    console.error(`The datasets ${hashes.join(', ')} stay, though nothing may need them any more:`, error)
  }
}
