import { env } from 'cloudflare:workers'
import { expect, test } from 'vitest'
import { openDatabase } from '../../../../../gateway/src/storage/db/open-database.ts'
import {
  findDatasets,
  findUnusedDatasets,
} from '../../../../../gateway/src/storage/db/queries/dataset-queries.ts'

test('more datasets are looked up at once than a statement has parameters', async () => {
  const db = openDatabase(env.DB)
  const hashes = Array.from({ length: 150 }, (_, index) => index.toString(16).padStart(64, '0'))
  expect(await findDatasets(db, hashes)).toEqual([])
  expect(await findUnusedDatasets(db, hashes, 0)).toEqual([])
})
