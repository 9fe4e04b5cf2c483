import { env } from 'cloudflare:workers'
import { expect, test } from 'vitest'
import { updateEntry } from '../../../../gateway/src/adaptation/updates/update-entry.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import type { JobState } from '../../../../gateway/src/storage/db/queries/job-queries.ts'
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

test('the progress of an update does not fall when its confirmation evaluates another mask', async () => {
  const id = await seedUpdate('entry-confirming', 1, { state: 'confirming', datasets: ['a'.repeat(64)] })
  const update = (await findUpdate(openDatabase(env.DB), id))!
  const jobOf = (state: JobState['state'], progress: number) =>
    ({ kind: 'evaluate', state, progress }) as JobState
  const jobs = [jobOf('done', 1), jobOf('queued', 0)]
  expect(updateEntry(update, jobs).progress).toBe(0.95)
  const cancelled = { ...update, state: 'cancelled', endedIn: 'confirming' } as const
  expect(updateEntry(cancelled, jobs).progress).toBe(0.95)
})
