/** Files that are stored, or become needed, while a sweep deletes them. */
import { env } from 'cloudflare:workers'
import { and, eq } from 'drizzle-orm'
import { expect, onTestFinished, test, vi } from 'vitest'
import { sha256 } from '@copal/shared/wire/signature.ts'
import { shareCalls } from '../../../../gateway/src/calls/call-budget.ts'
import { meterDeps } from '../../../../gateway/src/calls/metered-deps.ts'
import type { Deps } from '../../../../gateway/src/contracts/bindings.ts'
import { datasetKey, maskKey } from '../../../../gateway/src/storage/artifacts/artifact-keys.ts'
import { freezeDataset } from '../../../../gateway/src/storage/artifacts/datasets.ts'
import { deleteUnclaimed } from '../../../../gateway/src/storage/artifacts/file-claims.ts'
import { storeMaskFile } from '../../../../gateway/src/storage/artifacts/mask-files.ts'
import { joinMaskFile, storeMaskPart } from '../../../../gateway/src/storage/artifacts/mask-parts.ts'
import { sweepArtifacts } from '../../../../gateway/src/storage/artifacts/sweep-artifacts.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { findDatasets, forgetDatasets } from '../../../../gateway/src/storage/db/queries/dataset-queries.ts'
import {
  claimUnusedFiles,
  endDeletions,
} from '../../../../gateway/src/storage/db/queries/file-claim-queries.ts'
import { listMasks } from '../../../../gateway/src/storage/db/queries/mask-queries.ts'
import { masks } from '../../../../gateway/src/storage/db/schema/masks.ts'
import { fileClaims } from '../../../../gateway/src/storage/db/schema/sweeps.ts'
import { admin, maskFile, testDeps } from '../../support/doubles/simulated-node.ts'
import { sendHeartbeat } from '../../support/requests/gateway-requests.ts'
import { seedMasks } from '../../support/state/seed-masks.ts'

const DAY_MS = 24 * 60 * 60 * 1000
const TICK_MS = 5 * 60_000
const db = openDatabase(env.DB)

const isStored = async (key: string) => (await env.ARTIFACTS.head(key)) !== null

/** Sweeps all files two days from now, and does something else in the middle of a call of R2. */
async function sweepMeanwhile(
  method: 'list' | 'delete',
  key: string,
  meanwhile: () => Promise<unknown>,
  meter: (deps: Deps) => Deps = (deps) => deps,
): Promise<void> {
  let calls = 0
  const artifacts = new Proxy(env.ARTIFACTS, {
    get(bucket, name: keyof R2Bucket) {
      if (name !== method) return bucket[name].bind(bucket)
      return async (argument: never) => {
        const isOfFile =
          method === 'list'
            ? key.startsWith((argument as R2ListOptions).prefix ?? '')
            : (argument as string[]).includes(key)
        const listed = method === 'list' ? await bucket.list(argument) : undefined
        if (isOfFile && calls++ === 0) await meanwhile()
        return listed ?? bucket.delete(argument)
      }
    },
  })
  for (let tick = 0; tick < 16; tick += 1) {
    const nowMs = Date.now() + 2 * DAY_MS + tick * TICK_MS
    await sweepArtifacts(meter(testDeps({ artifacts, maskDays: 1, nowMs: () => nowMs })))
  }
  expect(calls).toBeGreaterThan(0)
}

/** A mask file that nothing needs, and the ways to store it again. */
async function unusedMask(text: string) {
  const bytes = maskFile(text)
  const hash = await sha256(bytes)
  await env.ARTIFACTS.put(maskKey(hash), bytes)
  const requestOf = () => ({
    headers: new Headers({ 'content-length': String(bytes.byteLength) }),
    body: new Response(bytes).body,
  })
  // The clock of the sweep: a claim of today says nothing to it.
  const deps = testDeps({ nowMs: () => Date.now() + 2 * DAY_MS })
  return {
    key: maskKey(hash),
    bytes: requestOf,
    whole: () => storeMaskFile(deps, hash, requestOf()),
    'in parts': async () => {
      await storeMaskPart(env.ARTIFACTS, hash, hash, requestOf())
      return joinMaskFile(deps, hash, [hash])
    },
  }
}

test.each(['whole', 'in parts'] as const)(
  'a mask that is sent again %s stays, whether a sweep has listed it or is deleting it',
  async (how) => {
    const listed = await unusedMask(`listed ${how}`)
    await sweepMeanwhile('list', listed.key, listed[how])
    expect(await isStored(listed.key)).toBe(true)

    const deleted = await unusedMask(`deleted ${how}`)
    let stored: Promise<void> | undefined
    await sweepMeanwhile('delete', deleted.key, async () => {
      stored = deleted[how]()
      await new Promise((resolve) => setTimeout(resolve, 50))
    })
    await stored
    expect(await isStored(deleted.key)).toBe(true)
  },
)

test.each([
  ['recorded', true],
  ['left without a record', false],
])('texts that are frozen again while a sweep deletes them stay (%s)', async (name, isRecorded) => {
  const deps = testDeps({ nowMs: () => Date.now() + 2 * DAY_MS })
  const freeze = (of = deps) => freezeDataset(of, 'swept', [{ text: `of a dataset ${name}`, sources: [] }])
  const { sha256: hash } = await freeze(testDeps())
  if (!isRecorded) await forgetDatasets(db, [hash])
  let frozen: Promise<unknown> | undefined
  await sweepMeanwhile('delete', datasetKey(hash), async () => {
    frozen = freeze()
    await new Promise((resolve) => setTimeout(resolve, 50))
  })
  await frozen
  expect(await isStored(datasetKey(hash))).toBe(true)
  expect(await findDatasets(db, [hash])).toHaveLength(1)
})

test('a mask whose file a sweep is deleting cannot be pinned', async () => {
  const model = 'pinned-late'
  await sendHeartbeat({ id: `node-${model}`, url: 'http://127.0.0.1:1' }, model)
  await seedMasks(model, [1, 2], { active: 2 })
  const [row] = (await listMasks(db, model, { limit: 9 })).filter(({ version }) => version === 1)
  const key = maskKey(row?.sha256 ?? '')
  await env.ARTIFACTS.put(key, 'mask')
  await db
    .update(masks)
    .set({ sweptAt: 1 })
    .where(and(eq(masks.model, model), eq(masks.version, 1)))
  let pinned: Promise<Response> | undefined
  await sweepMeanwhile('delete', key, async () => {
    pinned = admin('PUT', `/masks/1/pin?model=${model}`)
    await new Promise((resolve) => setTimeout(resolve, 50))
  })
  expect((await pinned)?.status).toBe(409)
  expect(await isStored(key)).toBe(false)
})

test('a file whose deletion fails in R2 can be stored five minutes later, whether a sweep has run or not', async () => {
  const { key, bytes } = await unusedMask('broken off')
  const failed = sweepMeanwhile('delete', key, () => Promise.reject(new Error('R2 is away')))
  await expect(failed).rejects.toThrow('R2 is away')
  const storeAfter = (minutes: number) => {
    const { claimedAt } = claim
    return storeMaskFile(
      testDeps({ nowMs: () => claimedAt + minutes * 60_000 }),
      key.slice(maskKey('').length),
      bytes(),
    )
  }
  const [claim = { claimedAt: 0 }] = await db.select().from(fileClaims).where(eq(fileClaims.key, key))
  await expect(storeAfter(4)).rejects.toMatchObject({ code: 'service_unavailable', retryAfterS: 5 })
  await storeAfter(6)
  expect(await isStored(key)).toBe(true)
})

test('a file can be stored at once after a sweep that failed before it asked R2 to delete it', async () => {
  const { key, whole } = await unusedMask('not deleted')
  const deps = testDeps({ nowMs: () => Date.now() + 2 * DAY_MS })
  const keptOf = () => Promise.reject(new Error('D1 is away'))
  await expect(deleteUnclaimed(deps, [key], { keptOf })).rejects.toThrow('D1 is away')
  await whole()
  expect(await isStored(key)).toBe(true)
})

test('a sweep deletes nothing if its claim is old by then', async () => {
  const { key } = await unusedMask('decided slowly')
  let nowMs = Date.now() + 2 * DAY_MS
  const keptOf = () => {
    nowMs += 2 * 60_000
    return Promise.resolve(new Set<string>())
  }
  expect(await deleteUnclaimed(testDeps({ nowMs: () => nowMs }), [key], { keptOf })).toBe(0)
  expect(await isStored(key)).toBe(true)
})

test('a file can be stored if its deletion ends during the last pause', async () => {
  const { key, whole } = await unusedMask('deleted slowly')
  await claimUnusedFiles(db, [key], { beforeMs: 0, nowMs: Date.now() })
  const later = globalThis.setTimeout
  const timers = vi.spyOn(globalThis, 'setTimeout')
  onTestFinished(() => timers.mockRestore())
  timers.mockImplementation((callback: () => void, ms?: number) => {
    const end = async () => {
      if (ms === 2_000) await endDeletions(db, [key])
      callback()
    }
    return later(() => void end(), 0)
  })
  await whole()
  expect(await isStored(key)).toBe(true)
})

test('a sweep ends the deletion that it began, although other tasks use all calls meanwhile', async () => {
  const { key, whole } = await unusedMask('deleted with the last calls')
  let useUp = () => {}
  await sweepMeanwhile(
    'delete',
    key,
    () => Promise.resolve(useUp()),
    (deps) => {
      const [ended, own, other] = shareCalls(3, 0, 24)
      if (!ended || !own || !other) throw new Error('a share is missing')
      ended.end()
      useUp = () => other.take(other.left)
      return meterDeps(deps, own)
    },
  )
  expect(await isStored(key)).toBe(false)
  await whole()
  expect(await isStored(key)).toBe(true)
})
