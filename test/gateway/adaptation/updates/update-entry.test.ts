import { env } from 'cloudflare:workers'
import { expect, test } from 'vitest'
import { updateEntry } from '../../../../gateway/src/adaptation/updates/update-entry.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { findUpdate, type UpdateRow } from '../../../../gateway/src/storage/db/queries/update-queries.ts'
import { seedUpdate } from '../../support/state/seed-masks.ts'

test('an update that collects texts says what takes its time, and counts the domains that are done', async () => {
  const entryWith = async (model: string, changes: Partial<UpdateRow>) => {
    const id = await seedUpdate(model, 1, {
      state: 'collecting',
      domains: ['legal', 'code'],
      ...changes,
    })
    return updateEntry((await findUpdate(openDatabase(env.DB), id))!, [])
  }
  expect(await entryWith('entry-one', { datasets: ['a'.repeat(64)] })).toMatchObject({
    progress: 0.025,
    message:
      'collecting texts of legal, code; scoring those of clients, to leave out outliers, takes up to 60 s',
  })
  expect((await entryWith('entry-none', { datasets: null })).progress).toBe(0)
})
