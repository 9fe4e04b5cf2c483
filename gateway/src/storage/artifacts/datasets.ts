import type { DatasetRef, TextSample } from '@copal/shared/wire/adaptation-jobs.ts'
import { sha256 } from '@copal/shared/wire/signature.ts'
import type { StoredText } from '../../contracts/reservoir-object.ts'
import { findUnusedDatasets, forgetDatasets, insertDataset } from '../db/queries/dataset-queries.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { datasetKey } from './artifact-keys.ts'

/** A line of a dataset. The domain makes equal texts of two domains two files, so that deleting one keeps the other. */
type DatasetLine = TextSample & { domain: string; key: string }

/** Freezes texts as a dataset: newline-delimited JSON in R2, named by its SHA-256. Equal texts give the same dataset. */
export async function freezeDataset(
  deps: Pick<Deps, 'db' | 'artifacts' | 'nowMs'>,
  domain: string,
  texts: readonly StoredText[],
): Promise<DatasetRef> {
  const lines = texts.map(({ text, keyId }) => {
    const line: DatasetLine = { domain, key: keyId, text }
    return `${JSON.stringify(line)}\n`
  })
  // A cast instead of a copy, because it may be large; the encoder's buffer is never shared.
  const bytes = new TextEncoder().encode(lines.join('')) as Uint8Array<ArrayBuffer>
  const hash = await sha256(bytes)
  await deps.artifacts.put(datasetKey(hash), bytes, { sha256: hash })
  const dataset = { sha256: hash, domain, samples: texts.length }
  await insertDataset(deps.db, { ...dataset, bytes: bytes.byteLength, createdAt: deps.nowMs() })
  return dataset
}

/** Returns the texts of a dataset, undefined if it is deleted. In old datasets, whose lines name no key, `keyId` is empty. */
export async function readDataset(
  { artifacts }: Pick<Deps, 'artifacts'>,
  hash: string,
): Promise<StoredText[] | undefined> {
  const object = await artifacts.get(datasetKey(hash))
  if (!object) return undefined
  const lines = (await object.text()).split('\n').slice(0, -1)
  return lines.map((line) => {
    const { text, key = '' } = JSON.parse(line) as Pick<DatasetLine, 'text'> & Partial<DatasetLine>
    return { text, keyId: key }
  })
}

/** Deletes those of some datasets that nothing needs any more. If that fails, it is logged and the texts stay. */
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
    console.error(`Cannot delete unused ones of the datasets ${hashes.join(', ')}; their texts stay:`, error)
  }
}
