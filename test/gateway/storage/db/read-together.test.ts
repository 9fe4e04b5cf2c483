import { env } from 'cloudflare:workers'
import { sql } from 'drizzle-orm'
import { expect, test } from 'vitest'
import type { Database } from '../../../../gateway/src/contracts/database.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { readTogether } from '../../../../gateway/src/storage/db/read-together.ts'
import { listCountedDomains } from '../../../../gateway/src/storage/db/queries/batch-queries.ts'
import { findDatasets } from '../../../../gateway/src/storage/db/queries/dataset-queries.ts'
import {
  ensureModel,
  findModel,
  listServedModels,
} from '../../../../gateway/src/storage/db/queries/model-queries.ts'
import { findMask } from '../../../../gateway/src/storage/db/queries/mask-queries.ts'
import { sumTokensByDomain } from '../../../../gateway/src/storage/db/queries/period-queries.ts'
import { seedMasks } from '../../support/state/seed-masks.ts'

const model = { id: 'together', baseSha256: 'a'.repeat(64), contextLength: 64, parameters: 1 }
const traffic = { fromMs: 0, nowMs: 1 }

/** A database, and the number of statements of each call of it. */
function recorded() {
  const calls: number[] = []
  const database = new Proxy(env.DB, {
    get: (target, name: keyof D1Database) =>
      name === 'batch'
        ? (statements: D1PreparedStatement[]) => {
            calls.push(statements.length)
            return target.batch(statements)
          }
        : target[name].bind(target),
  })
  return { db: openDatabase(database), calls }
}

test('reads that run together take one call, and give what they give alone', async () => {
  const { db, calls } = recorded()
  await ensureModel(db, model, 1)
  await seedMasks(model.id, [1, 2])
  const reads = (one: Database) =>
    [
      findModel(one, model.id),
      findMask(one, model.id, 2),
      findMask(one, model.id, 3),
      listCountedDomains(one, model.id),
      sumTokensByDomain(one, model.id, traffic),
      // Its columns are of two tables, and some have the same names: it runs alone.
      listServedModels(one),
      // Needs no statement.
      findDatasets(one, []),
    ] as const
  const alone = await Promise.all(reads(db))
  expect(alone[1]).toMatchObject({ version: 2 })
  expect(await readTogether(db, reads)).toEqual(alone)
  expect(calls).toEqual([5])
})

test('a read may stand behind any number of functions', async () => {
  const { db, calls } = recorded()
  await ensureModel(db, { ...model, id: 'deep' }, 1)
  const found = await readTogether(db, (one) => [
    findModel(one, 'deep'),
    (async () => {
      for (let turn = 0; turn < 1_000; turn += 1) await Promise.resolve()
      return findModel(one, 'deep')
    })(),
  ])
  expect(found).toMatchObject(Array.from({ length: 2 }, () => ({ id: 'deep' })))
  expect(calls).toEqual([2])
})

test('what a read asks after its first result takes a call of its own', async () => {
  const { db, calls } = recorded()
  await ensureModel(db, { ...model, id: 'twice' }, 1)
  const found = await readTogether(db, (one) => [
    findModel(one, 'twice').then((first) => findModel(one, first?.id ?? '')),
    findMask(one, 'twice', 1),
  ])
  expect(found).toMatchObject([{ id: 'twice' }, undefined])
  expect(calls).toEqual([2])
})

test('the error of a statement is that of the reads', async () => {
  const { db } = recorded()
  const reads = readTogether(db, (one) => [findModel(one, 'any'), one.all(sql`select * from missing`)])
  await expect(reads).rejects.toMatchObject({
    cause: expect.objectContaining({ message: expect.stringContaining('missing') as string }) as Error,
  })
  await expect(readTogether(db, () => [Promise.reject(new Error('at once'))])).rejects.toThrow('at once')
})
